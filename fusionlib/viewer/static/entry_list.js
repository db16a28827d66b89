// Filter and sort the entries, and find those whose people or metrics must be requested for it.

// results: {people: (index, pane) -> boxes or undefined, measures: (index, pane) -> {metric: value} or undefined}.
function listed(data, { group, query, filter, order, judged, score }, results) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const entries = data.entries.map((entry, index) => ({ ...entry, index })).filter((entry) => {
    const text = `${entry.name} ${entry.answer?.text ?? ""}`.toLowerCase();
    return (!group || entry.group === group) && words.every((word) => text.includes(word));
  });
  const labelled = (entry) => entry.truth?.length > 0;
  const missed = ({ index, truth }) => {
    const boxes = results.people(index, judged);
    return boxes && truth ? missedCount(truth, boxes, score) : null;
  };
  const [direction, metric] = [order.slice(0, order.indexOf(" ")), order.slice(order.indexOf(" ") + 1)];
  const sortedBy = data.metrics.find(({ name }) => name === metric);
  const measure = ({ index }) => results.measures(index, judged)?.[metric];
  const has = (entry) => entry.panes.includes(judged);

  const requests = [];
  if (filter === "missed" || order === "missed") {
    const missing = entries.filter((entry) => has(entry) && labelled(entry) && !results.people(entry.index, judged));
    if (missing.length) requests.push({ what: "people", entries: missing.map(({ index }) => index) });
  }
  if (sortedBy) {
    const missing = entries.filter((entry) => has(entry) && !results.measures(entry.index, judged));
    if (missing.length) requests.push({ what: "measures", entries: missing.map(({ index }) => index) });
  }
  const chosen = entries.filter((entry) => filter === "people" ? labelled(entry) : filter !== "missed" || missed(entry) > 0);
  const by = (value, down) => (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x == null || y == null) return (x == null) - (y == null);
    return down ? y - x : x - y;
  };
  if (order === "missed") chosen.sort(by((entry) => labelled(entry) ? missed(entry) : null, true));
  if (sortedBy) chosen.sort(by(measure, sortedBy.up === (direction === "best")));
  return { list: chosen.map(({ index }) => index), request: requests[0] };
}

// The panes with the best value, {pane: true}; empty if all values look the same.
function best(panes, values, up) {
  const measured = panes.filter((pane) => values[pane] != null);
  if (measured.length < 2) return {};
  const texts = new Set(measured.map((pane) => readable(values[pane])));
  if (texts.size < 2) return {};
  const top = measured.reduce((a, b) => (up ? values[b] > values[a] : values[b] < values[a]) ? b : a);
  return Object.fromEntries(measured.filter((pane) => readable(values[pane]) === readable(values[top])).map((pane) => [pane, true]));
}
