// People: which true boxes [x1, y1, x2, y2] are found by predictions [x1, y1, x2, y2, score].

const LEAST_OVERLAP = 0.5;

function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

// Best score first, each prediction takes the true box it overlaps most, if no other has it.
function judge(truth, found, score) {
  const shown = found.filter((box) => box[4] >= score).sort((a, b) => b[4] - a[4]);
  const taken = truth.map(() => false);
  const right = shown.map((box) => {
    let best = -1, most = LEAST_OVERLAP;
    truth.forEach((person, index) => {
      const common = taken[index] ? 0 : overlap(person, box);
      if (common >= most) [best, most] = [index, common];
    });
    if (best >= 0) taken[best] = true;
    return best >= 0;
  });
  return { shown, right, missed: taken.map((is) => !is) };
}

function missedCount(truth, found, score) {
  return judge(truth, found, score).missed.filter(Boolean).length;
}
