/*
 * Before all else, as a classic script: the colours chosen last time, and what to do when a part of the page does not come.
 *
 * It stands above every style sheet and script of the page, so that it hears of each that fails. Afterwards nothing tells
 * them apart: Chromium gives a style sheet that did not come an empty `sheet`, like one that came.
 */
{
  document.documentElement.classList.add("watched");
  const chosen = localStorage.getItem("baro.theme");
  if (chosen) document.documentElement.dataset.theme = JSON.parse(chosen);

  const COUNT = "baro.reloads"; // in a row, without a page that came whole; each waits longer than the one before
  const LONGEST_MS = 60000;
  let failed = false;
  const again = () => location.reload();

  function tell() {
    document.getElementById("unloaded").classList.add("told");
    document.getElementById("reload").addEventListener("click", (event) => (event.preventDefault(), again()));
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
  window.addEventListener("load", () => failed || sessionStorage.removeItem(COUNT));
}
