/** Guest code of the benchmarks: what kernels.c (beside this file) compiles to; loaded at 0x100000, flat, 64-bit. */

/** A benchmark program: machine code, where it starts, what rdi says. */
export interface Program {
  readonly name: string;
  readonly what: string;
  readonly code: string;
  readonly entry: number;
  readonly argument: number;
}

/** Where the code is loaded, and the top of the stack. */
export const LOAD = 0x100000;
export const STACK = 0x2f0000;

export const PROGRAMS: readonly Program[] = [
  {
    name: "integer",
    what: "a hash over a counter: shifts, logic, conditional moves",
    code:
      "48be83039d73b00f65144885ff74474531c0b901000000660f1f84000000000089c8c1e00d31c889c2c1ea1131d089c1c1e10531" +
      "c10fb6d14831f24c01c2488d72074883ea03f6c101480f44f24983c0014c39c775ca4889f0c3660f1f440000e89bfffffff40f0b",
    entry: 0x100060,
    argument: 3_000_000,
  },
  {
    name: "sieve",
    what: "the primes below 64 Ki, over and over",
    code:
      "4989fa4531c931c94885ff0f848f000000b800003000662e0f1f840000000000c600014883c001483d0000310075f1ba04000000" +
      "bf0200300031c9eb130f1f004883c70183c2024881ff0000310074430fb60784c074e94883c10181faffff000077dd448d870000" +
      "d0ff89d00f1f400089c64401c0c68600003000003dffff000076ed4883c70183c2024881ff0000310075bd4983c1014d39ca0f85" +
      "71ffffff4889c8c3662e0f1f8400000000006690e84bfffffff40f0b",
    entry: 0x1000b0,
    argument: 40,
  },
  {
    name: "copy",
    what: "64 KiB read, added to and written, by words",
    code:
      "4989f831c931ff4d85c07432b8000030000f1f8000000000488b104883c008488d343a4801d14889b0f8ff0700483d0000310075" +
      "e34883c7014939f875ce4889c8c3662e0f1f8400000000000f1f4000e8abfffffff40f0b",
    entry: 0x100050,
    argument: 700,
  },
  {
    name: "calls",
    what: "recursive Fibonacci",
    code:
      "e90b000000662e0f1f8400000000009055534889fb4883ec084883fb017619488d7bffe8e8ffffff488d7bfe4889c5e8dcffffff" +
      "488d1c284883c4084889d85b5dc3662e0f1f8400000000000f1f4000e8abfffffff40f0b",
    entry: 0x100050,
    argument: 30,
  },
  {
    name: "list",
    what: "a walk of a linked list over 256 KiB",
    code:
      "31c931d20f1f400089d08d9203100000448d04850000000081e2ff1f00004c89c08d349500000000488d34f50000300083c0014a" +
      "8934c50000300048890cc5000030004883c1014881f90020000075b84885ff741f31d231c9b80000300066904883c20148034808" +
      "488b004839d775f04889c8c331c9ebf80f1f840000000000e87bfffffff40f0b",
    entry: 0x100080,
    argument: 6_000_000,
  },
];
