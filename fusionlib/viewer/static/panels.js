// Below the images: thumbnails, the model's answer, the instruction.

class Thumbs {
  // One button per entry; thumbnails are requested when they scroll into view, and dropped when they leave it.
  constructor(viewer) {
    this.viewer = viewer;
    this.nodes = new Map();
    this.near = new Set();
    this.node = make("div", { class: "fl-thumbs", role: "listbox", "aria-label": "entries", tabindex: "-1" });
    this.ask = debounce(() => {
      const entries = [...this.near].filter((index) => !this.nodes.get(index).image.src);
      if (entries.length) viewer.ask({ kind: "thumbs", entries, pane: viewer.judged });
    }, 60);
    this.watch = new IntersectionObserver((changes) => changes.forEach(({ target, isIntersecting }) => {
      const index = Number(target.dataset.entry);
      if (isIntersecting) this.near.add(index);
      else { this.near.delete(index); this.forget(index); }
      this.ask();
    }), { root: this.node, rootMargin: "0px 600px" });
  }

  item(index) {
    if (!this.nodes.has(index)) {
      const { name } = this.viewer.data.entries[index];
      const image = make("img", { alt: "", draggable: "false" }), count = make("b", { hidden: true });
      const node = make("button", { type: "button", class: "fl-thumb", role: "option", tabindex: "-1", title: name,
        "data-entry": index, onclick: () => this.viewer.go(index) }, image, count, make("span", {}, shortName(name)));
      this.nodes.set(index, { node, image, count });
      this.watch.observe(node);
    }
    return this.nodes.get(index);
  }

  show(list) { this.node.replaceChildren(...list.map((index) => this.item(index).node)); }

  mark(index) {
    const node = this.nodes.get(index)?.node;
    this.marked?.setAttribute("aria-selected", "false"); // also if it is not in the list at present
    this.marked = node;
    if (!node?.parentNode) return;
    node.setAttribute("aria-selected", "true");
    const [left, width] = [node.offsetLeft - this.node.offsetLeft, this.node.clientWidth];
    if (left < this.node.scrollLeft + 60 || left + node.offsetWidth > this.node.scrollLeft + width - 60) {
      this.node.scrollLeft = left - width / 2 + node.offsetWidth / 2;
    }
  }

  missed(index, count) {
    const { count: node } = this.item(index);
    node.hidden = !count;
    node.textContent = count || "";
    node.title = count ? `${count} missed` : "";
  }

  receive(index, data) {
    const image = this.nodes.get(index)?.image;
    if (!image || !this.near.has(index)) return;
    this.forget(index);
    image.src = URL.createObjectURL(new Blob([data], { type: "image/jpeg" }));
  }

  forget(index) {
    const image = this.nodes.get(index)?.image;
    if (!image?.src) return;
    URL.revokeObjectURL(image.src);
    image.removeAttribute("src");
  }

  close() {
    this.watch.disconnect();
    this.ask.cancel();
    this.nodes.forEach((_, index) => this.forget(index));
  }
}

class Answer {
  constructor(viewer) {
    this.viewer = viewer;
    this.text = make("p", { class: "fl-answer" });
    this.source = make("span", { class: "fl-source" });
    this.node = make("section", { class: "fl-panel", hidden: true }, make("h4", {}, "answer ", this.source), this.text);
  }

  // With a Text-DFH, words are buttons. Positions are counted in code points, as in Python.
  show(answer) {
    this.node.hidden = !answer;
    if (!answer) return;
    this.source.textContent = `by ${answer.model}${this.viewer.data.attends ? "; click a word to see its attention map" : ""}`;
    const { text } = answer, parts = [];
    let end = 0;
    for (const match of text.matchAll(/[\p{L}\p{N}]+/gu)) {
      parts.push(text.slice(end, match.index));
      end = match.index + match[0].length;
      const start = [...text.slice(0, match.index)].length, word = [start, start + [...match[0]].length];
      parts.push(this.viewer.data.attends
        ? button(match[0], `attention map of “${match[0]}”`, () => this.viewer.attend(word), { class: "fl-word", "data-word": word })
        : match[0]);
    }
    this.text.replaceChildren(...parts, text.slice(end));
  }

  mark(word) {
    this.text.querySelectorAll(".fl-word").forEach((node) => node.setAttribute("aria-pressed", node.dataset.word === String(word)));
  }
}

class Instruction {
  constructor(viewer) {
    const list = `fl-examples-${Math.random().toString(36).slice(2)}`;
    this.later = debounce(() => viewer.instruct(this.field.value.trim()), 500);
    this.field = make("input", { type: "text", "data-role": "instruction", list, placeholder: "describe a change in words, or auto",
      "aria-label": "instruction", onfocus: () => { if (!this.warm) viewer.ask({ kind: "warm" }); this.warm = true; },
      oninput: () => this.later(), onkeydown: (event) => {
        if (event.key !== "Enter") return;
        this.later.cancel();
        viewer.instruct(this.field.value.trim());
      } });
    this.note = make("span", { class: "fl-source", "data-role": "took" }, `by ${viewer.data.answers_from}`);
    this.problem = make("p", { class: "fl-problem", hidden: true, role: "alert" });
    this.node = make("section", { class: "fl-panel" }, make("h4", {}, "instruction ", this.note), this.field,
      make("datalist", { id: list }, ...viewer.data.examples.map((text) => make("option", { value: text }))), this.problem);
  }

  say(note, problem = "") {
    this.note.textContent = note;
    this.problem.textContent = problem;
    this.problem.hidden = !problem;
  }
}
