// A pair of the user's own, chosen or dropped. It goes to the kernel in parts, as a message is limited to 10 MB.

const PART = 4 << 20;

const uploads = {
  choosePair() {
    const input = make("input", { type: "file", multiple: true, accept: "image/*", onchange: () => this.openPair([...input.files]) });
    input.click();
  },

  async openPair(files) {
    const large = files.find((file) => file.size > this.data.most);
    if (files.length !== 2) {
      this.say("expected two images at once, an infrared and a visible one: choose or drop both", true);
    } else if (large) {
      this.say(`${large.name}: expected an image file of at most ${this.data.most >> 20} MB, found ${Math.ceil(large.size / 2 ** 20)} MB; browse its folder instead`, true);
    } else {
      this.say("opening …");
      const names = files.map((file) => file.name), { number } = this.data;
      for (const [file, blob] of files.entries()) {
        for (let from = 0; from === 0 || from < blob.size; from += PART) {
          const data = await blob.slice(from, from + PART).arrayBuffer();
          const first = file === 0 && from === 0, last = file === 1 && from + PART >= blob.size;
          this.model.send({ gallery: number, kind: "upload", file, last, names: first ? names : null }, undefined, [data]);
        }
      }
    }
  },

  // Let files be dropped anywhere on the viewer.
  listenForFiles() {
    const holdsFiles = (event) => [...event.dataTransfer?.types ?? []].includes("Files");
    const show = (event, on) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      event.stopPropagation();
      this.root.classList.toggle("fl-drop", on);
    };
    this.root.addEventListener("dragover", (event) => show(event, true));
    this.root.addEventListener("dragleave", (event) => show(event, false));
    this.root.addEventListener("drop", (event) => {
      show(event, false);
      if (holdsFiles(event)) this.openPair([...event.dataTransfer.files]);
    });
  },
};
