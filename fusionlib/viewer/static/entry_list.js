// Which entries are listed and in which order, and of which something has to be found out first.

// known: {people: (index, pane) -> boxes or undefined, measures: (index, pane) -> {metric: value} or undefined}.
function listed(data, { group, query, filter, order, judged, score }, known) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const entries = data.entries.map((entry, index) => ({ ...entry, index })).filter((entry) => {
    const text = `${entry.name} ${entry.answer?.text ?? ""}`.toLowerCase();
    return (!group || entry.group === group) && words.every((word) => text.includes(word));
  });
  const labelled = (entry) => entry.truth?.length > 0;
  const missed = ({ index, truth }) => {
    const boxes = known.people(index, judged);
    return boxes && truth ? missedCount(truth, boxes, score) : null;
  };
  const [direction, metric] = [order.slice(0, order.indexOf(" ")), order.slice(order.indexOf(" ") + 1)];
  const about = data.metrics.find(({ name }) => name === metric);
  const measure = ({ index }) => known.measures(index, judged)?.[metric];
  const has = (entry) => entry.panes.includes(judged);

  const unknown = [];
  if (filter === "missed" || order === "missed") {
    const open = entries.filter((entry) => has(entry) && labelled(entry) && !known.people(entry.index, judged));
    if (open.length) unknown.push({ what: "people", entries: open.map(({ index }) => index) });
  }
  if (about) {
    const open = entries.filter((entry) => has(entry) && !known.measures(entry.index, judged));
    if (open.length) unknown.push({ what: "measures", entries: open.map(({ index }) => index) });
  }
  const kept = entries.filter((entry) => filter === "people" ? labelled(entry) : filter !== "missed" || missed(entry) > 0);
  const by = (value, down) => (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x == null || y == null) return (x == null) - (y == null);
    return down ? y - x : x - y;
  };
  if (order === "missed") kept.sort(by((entry) => labelled(entry) ? missed(entry) : null, true));
  if (about) kept.sort(by(measure, about.up === (direction === "best")));
  return { list: kept.map(({ index }) => index), unknown: unknown[0] };
}

// Of the values of several images, the best: {pane: true} where they differ.
function best(panes, values, up) {
  const given = panes.filter((pane) => values[pane] != null);
  if (given.length < 2) return {};
  const texts = new Set(given.map((pane) => readable(values[pane])));
  if (texts.size < 2) return {};
  const top = given.reduce((a, b) => (up ? values[b] > values[a] : values[b] < values[a]) ? b : a);
  return Object.fromEntries(given.filter((pane) => readable(values[pane]) === readable(values[top])).map((pane) => [pane, true]));
}
