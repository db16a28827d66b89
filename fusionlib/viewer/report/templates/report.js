(() => {
  const root = document.documentElement;
  const states = { theme: ["system", "light", "dark"], code: ["shown", "hidden"] };
  const load = name => { try { return localStorage.getItem("fusionlib-" + name); } catch { return null; } };
  const keep = (name, value) => { try { localStorage.setItem("fusionlib-" + name, value); } catch { /* for this page */ } };
  const set = (name, value) => {
    root.dataset[name] = value;
    for (const button of document.querySelectorAll(`button[data-switch=${name}]`)) button.lastElementChild.textContent = value;
  };
  const all = () => { for (const name in states) set(name, states[name].includes(load(name)) ? load(name) : states[name][0]); };
  all();
  document.addEventListener("DOMContentLoaded", () => {
    all();
    const menu = document.querySelector("nav details"), narrow = matchMedia("(max-width: 60rem)");
    const fold = () => { menu.open = !narrow.matches; };
    fold();
    narrow.addEventListener("change", fold);
    menu.addEventListener("click", event => { if (event.target.closest("a")) fold(); });
    for (const button of document.querySelectorAll("button[data-switch]")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        const name = button.dataset.switch, values = states[name];
        const value = values[(values.indexOf(root.dataset[name]) + 1) % values.length];
        set(name, value);
        keep(name, value);
      });
    }
  });
})();
