/** The JSON reader agrees with JSON.parse on JSON, and keeps what rt-app's files have beyond it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Json, parseJson } from "../../../arch/workload/json.ts";

function plain(json: Json): unknown {
  if (json.kind === "array") return json.items.map(plain);
  if (json.kind === "object") {
    const out: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    for (const { key, value } of json.members) out[key] = plain(value);
    return { ...out };
  }
  return json.kind === "null" ? null : json.value;
}

test("what JSON.stringify writes is read back", () => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), fc.constantFrom(undefined, 2), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      expect(JSON.stringify(plain(parseJson(text)))).toBe(JSON.stringify(JSON.parse(text)));
    }),
    { numRuns: 300 },
  );
});

test("garbage is a SyntaxError, never anything else", () => {
  const pieces = fc.constantFrom(
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"a"',
    '"',
    "1",
    "-",
    "true",
    "//",
    "/*",
    "*/",
    "\n",
    " ",
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 20 }), (parts) => {
      try {
        parseJson(parts.join(""));
      } catch (error) {
        expect(error).toBeInstanceOf(SyntaxError);
      }
    }),
    { numRuns: 500 },
  );
});

test("order and repeated keys are kept; escapes, comments, trailing commas", () => {
  const json = parseJson('{"2":1,"1":2,"run":3,"run":4,/* x */"\\u00e9\\n":[1,2,], } // end');
  expect(json.kind === "object" && json.members.map((m) => m.key)).toEqual(["2", "1", "run", "run", "é\n"]);
});
