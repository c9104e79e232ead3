/** RISC-V guest code of the benchmarks: what kernels.c (beside this file) compiles to; loaded at 0x8000_0000, bare, in S-mode. */
import type { Program } from "./programs.ts";

/** Guest-physical pages that the kernels use: where they are loaded, with the stack below RISCV_STACK; and the data's, as far as RISCV_DATA_END. */
export const RISCV_LOAD = 0x80000000;
export const RISCV_STACK = 0x80100000;
export const RISCV_DATA = 0x300000;
export const RISCV_DATA_END = 0x400000;

export const RISCV_PROGRAMS: readonly Program[] = [
  {
    name: "integer",
    what: "a hash over a counter: shifts, logic, conditional moves",
    code:
      "aa8521c18146170500000335250585471b97d700b98f1bd71701b98f1b975700b98f13f7f70f298f369713f6170085061305d7ff" +
      "812719c213057700e39ad5fc828017050000033565018280eff05ffb730000000000000083039d73b00f6514",
    entry: 0x8000004c,
    argument: 3_000_000,
  },
  {
    name: "sieve",
    what: "the primes below 64 Ki, over and over",
    code:
      "aa8f014f25c5854e37033100b70830004166370ed0ffb70730002380d7018507e39d67fe914693852800014529a0850589266389" +
      "650283c70500f5db0505e3f8c6fe3b08be00b687139707020193469723000700bb07f800e3e8c7fe85058926e39b65fc050fe398" +
      "effb828001458280eff01ff973000000",
    entry: 0x80000070,
    argument: 40,
  },
  {
    name: "copy",
    what: "64 KiB read, added to and written, by words",
    code:
      "2a8381450145b70808003708310063020302b70730009863b3861701a1073306b70090e23a95e39807ff8505e313b3fe82808280" +
      "eff0dffc73000000",
    entry: 0x80000034,
    argument: 700,
  },
  {
    name: "calls",
    what: "recursive Fibonacci",
    code:
      "09a0411122e006e42a848547228563fd87001305f4ffeff0dffeaa871305e4ff3e84eff01ffe2295a260026441018280eff01ffd" +
      "73000000",
    entry: 0x80000030,
    argument: 30,
  },
  {
    name: "list",
    what: "a walk of a linked list over 256 KiB",
    code:
      "096385682a8f814581478d28130ef3ff370830003b8617013376c60181279b9727001b1726009396070202178527819201938e06" +
      "0e07939e0702c296429793d7de01c29798e28ce385059b070600e39365fc630d0f0001470145b7073000946705079c633695e31c" +
      "effe828001458280eff01ff973000000",
    entry: 0x80000070,
    argument: 6_000_000,
  },
  {
    name: "float",
    what: "doubles: fused multiply-adds and a division",
    code:
      "41c59707000007b1670b53072122814717070000873687091707000087378709170700008730070a170700000730070a17070000" +
      "0735070a170700008735070a170700000736070ad3f7d71285074377177ad37707025317e6a2d377f51ac3f6b67a19c353072122" +
      "e310f5fe9707000087b6c7075377d712d3f7d712531537c2d39737c23e9582809707000087b787029707000007b78702d1bfeff0" +
      "7ff673000000000000000000333333333333d33f9a9999999999f13f9a9999999999b93f000000000000e83f000000000000f43f" +
      "000000000000f03f000000000000e03f00000000000059400000000065cdcd41",
    entry: 0x8000009a,
    argument: 2_000_000,
  },
];
