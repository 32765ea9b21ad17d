/* Pointers and arrow keys, for the drawing and the map. */

/** Follows one pointer at a time and its primary button alone: start(event), move(event), then end(), or cancel() if the
    system takes the pointer away. The browser may leave out any of a pointer's events: the next pointer starts in any case.

    The class "by-pointer" is there until a key is pressed: some browsers would show the focus of the keyboard after a click.
*/
function follow(element, start, move, end, cancel) {
  let active = null;
  const finish = how => {
    active = null;
    how();
  };
  element.onpointerdown = event => {
    if (event.button !== 0) return;
    const isSecondFinger = active !== null && !event.isPrimary && element.hasPointerCapture(active);
    if (isSecondFinger) return;
    if (active !== null) finish(end);
    active = event.pointerId;
    element.classList.add("by-pointer");
    try {
      element.setPointerCapture(active);
    } catch {
      // The pointer is gone already, as after a quick tap.
    }
    start(event);
  };
  element.onpointermove = event => {
    if (event.pointerId !== active) return;
    if (event.buttons & 1) move(event);
    else finish(end);
  };
  element.onpointerup = event => { if (event.pointerId === active) finish(end); };
  element.onpointercancel = event => { if (event.pointerId === active) finish(cancel); };
  element.oncontextmenu = event => event.preventDefault();  // a finger at rest opens it, and the pointer would be taken away
  element.addEventListener("keydown", () => element.classList.remove("by-pointer"));
  element.addEventListener("blur", () => element.classList.remove("by-pointer"));
}

/** The direction [x, y] of an arrow key, y being downwards; undefined for other keys. */
function arrow(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return undefined;  // the browser's own
  return { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
}
