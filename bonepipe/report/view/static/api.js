// What the server is asked for. Answers about masks are kept for the last images.
const KEPT = 60;
const answers = new Map();
let token = "";
export let session = "";

async function ask(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => ({error: `${path}: ${response.status}`}));
  if (!response.ok) throw new Error(body.error ?? `${path}: ${response.status}`);
  return body;
}

export async function index() {
  const body = await ask("/api/index");
  ({token, session} = body);
  return body;
}

export const dice = () => ask("/api/dice");
export const candidates = () => ask("/api/candidates");

export const decide = (rank, action) => ask("/api/decisions", {
  method: "POST", body: JSON.stringify({rank, action}),
  headers: {"Content-Type": "application/json", "X-Bonepipe-Token": token},
});

function kept(path) {
  const answer = answers.get(path) ?? ask(path);
  answers.delete(path);
  answers.set(path, answer);
  answer.catch(() => answers.delete(path));
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
  return answer;
}

export const masks = (number, source) => kept(`/api/masks/${number}/${source}`);
export const differences = (number, source) => kept(`/api/differences/${number}/${source}`);
export const picture = (number, size) => `/image/${number}/${size}?${session}`;
export const tile = (number, row, column) => `/tile/${number}/${row}/${column}?${session}`;
