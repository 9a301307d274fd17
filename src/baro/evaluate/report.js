const root = document.documentElement, button = document.getElementById("theme");
const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const label = () => { button.textContent = isDark() ? button.dataset.light : button.dataset.dark; };
try { root.dataset.theme = localStorage.getItem("baro-theme") || ""; } catch (error) { /* private mode: nothing is kept */ }
button.hidden = false;
button.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("baro-theme", root.dataset.theme); } catch (error) { /* likewise */ }
  label();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
const unfold = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", unfold);
unfold();
label();
