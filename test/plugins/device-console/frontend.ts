/** A guest's side of the primary console, scripted. */
import { xencons_interface } from "../../../core/abi/index.ts";
import type { ScriptedGuest } from "../../support/scripted-frontend.ts";

type Index = "in_cons" | "in_prod" | "out_cons" | "out_prod";

/** What a test does with it. */
export interface ConsoleFrontend {
  readonly port: number;
  /** Prints as much as fits; the number of bytes. */
  print(text: string): number;
  /** Takes what has been typed and tells the backend. */
  typed(): string;
  /** Writes an index as it is, and notifies. */
  set(index: Index, value: number): void;
  get(index: Index): number;
}

/** The console page and port that the builder made. */
export function consoleFrontend(guest: ScriptedGuest): ConsoleFrontend {
  const mfn = Number(guest.read("console/ring-ref"));
  const port = Number(guest.read("console/port"));
  const { fields } = xencons_interface.at(guest.domain.abi);
  const view = guest.view(mfn);
  const page = guest.page(mfn);
  const get = (index: Index): number => fields[index].get(view, 0);
  return {
    port,
    get,
    print(text) {
      const { offset, count } = fields.out;
      let produced = get("out_prod");
      let printed = 0;
      for (; printed < text.length && (produced - get("out_cons")) >>> 0 < count; printed++, produced++)
        page[offset + (produced & (count - 1))] = text.charCodeAt(printed);
      fields.out_prod.set(view, 0, produced >>> 0);
      guest.send(port);
      return printed;
    },
    typed() {
      const { offset, count } = fields.in;
      let text = "";
      for (; get("in_cons") !== get("in_prod"); fields.in_cons.set(view, 0, (get("in_cons") + 1) >>> 0))
        text += String.fromCharCode(page[offset + (get("in_cons") & (count - 1))]!);
      guest.send(port);
      return text;
    },
    set(index, value) {
      fields[index].set(view, 0, value);
      guest.send(port);
    },
  };
}
