// Create elements. Strings become text nodes: text of files, models and users is never parsed as HTML.

function make(tag, attributes = {}, ...children) {
  const node = tag === "svg" || tag === "rect" || tag === "text" || tag === "title" || tag === "path"
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function button(text, title, act, attributes = {}) {
  return make("button", { type: "button", title, "aria-label": title, onclick: act, ...attributes }, text);
}

// A select without a visible label; options are [value, text].
function choice(label, name, options, value, act) {
  const select = make("select", { "data-role": name, title: label, "aria-label": label, onchange: (event) => act(event.target.value) });
  select.append(...options.map(([key, text]) => make("option", { value: key }, text)));
  select.value = value;
  return select;
}

// Debounce: call after a pause in the calls, with the arguments of the last one.
function debounce(act, pause) {
  let timer = 0;
  const call = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), pause);
  };
  call.cancel = () => clearTimeout(timer);
  return call;
}

function shortName(name) {
  return name.slice(name.lastIndexOf("/") + 1);
}

function readable(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 3);
}
