/** Dragging by mouse, pen or finger: `drop(target)` gets the element marked data-drop under the pointer. */
const FAR_ENOUGH_PX = 6;

export function draggable(node, drop) {
  let from = null;
  let target = null;
  const over = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-drop]") ?? null;
  const mark = (next) => {
    target?.classList.remove("over");
    target = next;
    target?.classList.add("over");
  };
  const end = (event) => {
    const landed = target;
    const dragged = node.classList.contains("dragged");
    mark(null);
    from = null;
    node.classList.remove("dragged");
    document.body.classList.remove("dragging");
    node.style.transform = "";
    if (dragged && landed && event.type === "pointerup") drop(landed);
  };
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = [event.clientX, event.clientY];
    node.setPointerCapture(event.pointerId);
  });
  node.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [x, y] = [event.clientX - from[0], event.clientY - from[1]];
    if (!node.classList.contains("dragged")) {
      if (Math.hypot(x, y) < FAR_ENOUGH_PX) return;
      node.classList.add("dragged");
      document.body.classList.add("dragging");
    }
    node.style.transform = `translate(${x}px, ${y}px)`;
    mark(over(event));
  });
  ["pointerup", "pointercancel"].forEach((name) => node.addEventListener(name, end));
}
