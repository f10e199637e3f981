// Where answers go: to the server that the page comes from, or into the browser until they are handed in as a code.

/** What a page that was loaded before has left here; a browser that keeps nothing begins anew. */
function kept(key) {
  try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
}

function keep(key, value) {
  try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* a reload then begins anew */ }
}

class Refused extends Error {}

async function ask(path, body) {
  const request = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await fetch(path, request);
  if (response.status >= 500) throw new Error(response.statusText);
  if (!response.ok) throw Object.assign(new Refused((await response.json()).error), { status: response.status });
  return response.json();
}

/** Answers on a server. */
function servedStore(study) {
  const key = `nststab-study-${study.id}`;
  let person = kept(key);

  async function known() {
    try {
      return person === null ? null : await ask(`people/${person}`);
    } catch (error) {
      if (error instanceof Refused) return null;
      throw error;
    }
  }

  return {
    /** The pairs of this person, and which are answered: null for someone new. */
    resume: known,
    begin: async () => {
      person = (await ask("people", {})).person;
      keep(key, person);
      return known();
    },
    answer: async (place, { choices, milliseconds, replays }) => {
      try {
        await ask("answers", { person, place, choices, milliseconds, replays });
      } catch (error) {
        if (error.status !== 409) throw error; // answered in another window: that answer stays
      }
    },
    forget: () => { person = null; keep(key, null); },
    code: () => null,
  };
}

/** FNV-1a, as answers.py reckons it. */
function check(text) {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value.toString(16).padStart(8, "0");
}

/** Answers in this browser, of a study that no server runs; each person's are kept apart, for other windows. */
function packedStore(study) {
  const key = `nststab-study-${study.id}`;
  const keyOf = (person) => `${key}-${person}`;
  let own = kept(keyOf(kept(key)));
  const random = (count) => crypto.getRandomValues(new Uint32Array(count));
  const state = () => own && { trials: study.sheets[own.sheet], answered: own.answers.flatMap((answer, i) => (answer ? [i] : [])) };
  return {
    resume: async () => state(),
    begin: async () => {
      const person = [...random(2)].map((part) => part.toString(16).padStart(8, "0")).join("");
      const sheet = random(1)[0] % study.sheets.length;
      own = { person, sheet, answers: study.sheets[sheet].map(() => "") };
      keep(key, person);
      keep(keyOf(person), own);
      return state();
    },
    answer: async (place, { choices, milliseconds, replays }) => {
      own = kept(keyOf(own.person)) ?? own; // another window may have answered
      own.answers[place] ||= `${choices}_${milliseconds}_${replays}`;
      keep(keyOf(own.person), own);
    },
    forget: () => { own = null; keep(key, null); },
    code: () => {
      const text = `nststab1.${study.id}.${own.person}.${own.sheet}.${own.answers.join("~")}`;
      return `${text}.${check(text)}`;
    },
  };
}
