/**
 * A server of requests that arrive by themselves, as from a network: an open queue with one server.
 *
 * Arrivals and service times come from streams of their own: what the scheduler does changes neither.
 */
import type { Nanoseconds } from "hookvisor";
import type { Guest } from "../guest.ts";
import { type RandomStream, Variable } from "../random.ts";
import type { Behaviour, BehaviourKind } from "./behaviour.ts";

interface Parameters {
  readonly interarrival: Variable;
  readonly service: Variable;
  readonly deadline: Nanoseconds;
  readonly requests: number;
}

class Server implements Behaviour {
  readonly #p: Parameters;
  readonly #arrivals: RandomStream;
  readonly #services: RandomStream;
  #arrival: Nanoseconds = 0;
  #started: Nanoseconds = 0;
  #work = 0;
  #done = 0;
  #busy = false;

  constructor(parameters: Parameters, guest: Guest, scope: string) {
    this.#p = parameters;
    this.#arrivals = guest.stream(`${scope}/arrivals`);
    this.#services = guest.stream(`${scope}/service`);
  }

  start(_guest: Guest, now: Nanoseconds): void {
    this.#done = 0;
    this.#busy = false;
    this.#arrival = now + this.#p.interarrival.draw(this.#arrivals);
  }

  next(guest: Guest, now: Nanoseconds): void {
    const p = this.#p;
    if (this.#busy) {
      this.#busy = false;
      guest.jobDone(this.#arrival, this.#started, now, this.#arrival + p.deadline, this.#work);
      if (++this.#done === p.requests) {
        guest.end();
        return;
      }
      this.#arrival += p.interarrival.draw(this.#arrivals);
    }
    if (this.#arrival > now) {
      guest.sleepUntil(this.#arrival);
      return;
    }
    this.#busy = true;
    this.#started = now;
    this.#work = p.service.draw(this.#services);
    guest.run(this.#work);
  }
}

export const io: BehaviourKind = {
  name: "io",
  summary: "serves requests that arrive at random (Poisson), or as a distribution says",
  read(fields) {
    const rate = fields.get("rate");
    const interarrival = fields.get("interarrival");
    if ((rate === undefined) === (interarrival === undefined))
      fields.value.fail("needs exactly one of the keys 'rate' (requests a second) and 'interarrival'");
    const parameters: Parameters = {
      interarrival:
        rate !== undefined
          ? Variable.exponential(1e9 / rate.number(0.001, 1e9))
          : interarrival!.isObject
            ? Variable.read(interarrival!, { min: 1 })
            : Variable.exponential(interarrival!.duration({ min: 1 })),
      service: Variable.read(fields.need("service"), { min: 1 }),
      deadline: fields.get("deadline")?.duration({ min: 1 }) ?? Infinity,
      requests: fields.get("requests")?.whole(1) ?? Infinity,
    };
    fields.close("io");
    const { scope } = fields.value;
    return {
      finite: parameters.requests < Infinity,
      shared: false,
      make: (guest) => new Server(parameters, guest, scope),
    };
  },
};
