// Match detections [x1, y1, x2, y2, score] with true boxes [x1, y1, x2, y2].

const MIN_IOU = 0.5;

function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

// In order of their scores, each detection is assigned to the free true box that it overlaps most.
function judge(truth, detections, score) {
  const shown = detections.filter((box) => box[4] >= score).sort((a, b) => b[4] - a[4]);
  const taken = truth.map(() => false);
  const right = shown.map((box) => {
    let best = -1, most = MIN_IOU;
    truth.forEach((person, index) => {
      const overlap = taken[index] ? 0 : iou(person, box);
      if (overlap >= most) [best, most] = [index, overlap];
    });
    if (best >= 0) taken[best] = true;
    return best >= 0;
  });
  return { shown, right, missed: taken.map((is) => !is) };
}

function missedCount(truth, detections, score) {
  return judge(truth, detections, score).missed.filter(Boolean).length;
}
