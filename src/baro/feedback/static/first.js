/* Before all else, as a classic script: the colours chosen last time, and what to do when a part of the page does not come. */
{
  const chosen = localStorage.getItem("baro.theme");
  if (chosen) document.documentElement.dataset.theme = JSON.parse(chosen);

  const COUNT = "baro.reloads"; // in a row, without a page that came whole; each waits longer than the one before
  const LONGEST_MS = 60000;
  let failed = false;
  const again = () => location.reload();

  function tell() {
    document.getElementById("unloaded").hidden = false;
    document.getElementById("reload").addEventListener("click", again);
  }

  function fail() {
    if (failed) return;
    failed = true;
    const before = Number(sessionStorage.getItem(COUNT)) || 0;
    sessionStorage.setItem(COUNT, before + 1);
    setTimeout(again, Math.min(LONGEST_MS, 2000 * 2 ** before));
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", tell);
    else tell();
  }

  /* A module that is missing shows as an error of the script that imports it, directly or not. */
  const needed = ({ localName, rel }) => localName === "script" || (localName === "link" && rel === "stylesheet");
  window.addEventListener("error", ({ target }) => needed(target) && fail(), true);
  window.addEventListener("baro:unloaded", fail);
  window.addEventListener("load", () => {
    // a style sheet may have failed before this script ran
    if ([...document.querySelectorAll('link[rel="stylesheet"]')].some((link) => !link.sheet)) fail();
    if (!failed) sessionStorage.removeItem(COUNT);
  });
}
