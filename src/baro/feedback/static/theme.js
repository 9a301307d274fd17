/* Before the first paint: the colours the reader chose last time. A classic script, so that it runs before the body. */
{
  const chosen = localStorage.getItem("baro.theme");
  if (chosen) document.documentElement.dataset.theme = JSON.parse(chosen);
}
