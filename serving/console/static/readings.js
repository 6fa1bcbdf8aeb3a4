/* From cumulative counts to what happened between two readings of one worker. */

export const sum = (counts) => Object.values(counts).reduce((total, value) => total + value, 0);

export function between(before, now) {
  const seconds = now.at - before.at;
  const less = (one, other) => Object.fromEntries(Object.entries(one).map(([name, value]) => [name, value - (other[name] || 0)]));
  const buckets = (one, other) => one.map(([bound, count], place) => [bound, count - (other.length ? other[place][1] : 0)]);
  return {
    seconds,
    requests: less(now.requests, before.requests),
    lists: less(now.lists, before.lists),
    events: less(now.events, before.events),
    fallbacks: less(now.fallbacks, before.fallbacks),
    refused: less(now.refused, before.refused),
    cold: now.cold - before.cold,
    latency: buckets(now.latency, before.latency),
    adaptation: buckets(now.adaptation, before.adaptation),
  };
}

export const nothing = (reading) => ({
  ...reading, at: reading.started, requests: {}, lists: {}, events: {}, fallbacks: {}, refused: {}, cold: 0, latency: [], adaptation: [],
});

/* Seconds below which a share of the observations lies, along the line within its bucket; null without any. */
export function quantile(buckets, share) {
  const total = buckets.length ? buckets.at(-1)[1] : 0;
  if (!total) return null;
  let low = 0, below = 0;
  for (const [bound, count] of buckets) {
    if (count >= share * total) {
      if (bound === null) return low;
      return low + (bound - low) * ((share * total - below) / Math.max(1e-9, count - below));
    }
    low = bound;
    below = count;
  }
  return low;
}
