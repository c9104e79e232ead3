/*
 * The benchmarks' guest code: freestanding, 64-bit, one entry per kernel; its argument is main's. On x86 each ends in hlt with its answer in rax, on RISC-V
 * in ecall with its answer in a0.
 * gcc 12.2 made of this, with -DKERNEL=n -O2 -fno-tree-vectorize -ffreestanding -fno-pic -fno-stack-protector -nostdlib and
 *   programs.ts: gcc -mno-sse -fcf-protection=none -Wl,-Ttext=0x100000,--build-id=none -Wl,--oformat=binary
 *   programs-riscv.ts: riscv64-linux-gnu-gcc -march=rv64gc -mabi=lp64d -mcmodel=medany -static -Wl,-N,-Ttext=0x80000000,--build-id=none; objcopy -O binary
 */
typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned char u8;
#if KERNEL == 0 /* integer: a hash over a counter */
static u64 run(u64 n) {
  u64 h = 1469598103934665603ul;
  u32 x = 1;
  for (u64 i = 0; i < n; i++) {
    x ^= x << 13; x ^= x >> 17; x ^= x << 5;
    h = (h ^ (x & 0xff)) + i;
    if (x & 1) h += 7; else h -= 3;
  }
  return h;
}
#elif KERNEL == 1 /* sieve of 64 Ki numbers, n times */
static u64 run(u64 n) {
  volatile u8 *s = (u8 *)0x300000;
  u64 count = 0;
  for (u64 k = 0; k < n; k++) {
    count = 0;
    for (u32 i = 0; i < 65536; i++) s[i] = 1;
    for (u32 i = 2; i < 65536; i++) {
      if (!s[i]) continue;
      count++;
      for (u32 j = i + i; j < 65536; j += i) s[j] = 0;
    }
  }
  return count;
}
#elif KERNEL == 2 /* copy: 64 KiB by words, n times */
static u64 run(u64 n) {
  u64 sum = 0;
  for (u64 k = 0; k < n; k++) {
    volatile u64 *from = (u64 *)0x300000, *to = (u64 *)0x380000;
    for (u32 i = 0; i < 8192; i++) { u64 v = from[i]; to[i] = v + k; sum += v; }
  }
  return sum;
}
#elif KERNEL == 3 /* recursive calls */
static __attribute__((noinline, optimize("no-optimize-sibling-calls"))) u64 fib(u64 n) { 
  __asm__ volatile("" : "+r"(n));
  if (n < 2) return n;
  u64 a = fib(n - 1);
  return a + fib(n - 2);
}
static u64 run(u64 n) { return fib(n); }
#elif KERNEL == 4 /* a list walk: dependent loads over 256 KiB, as kernels do */
static u64 run(u64 n) {
  u64 *node = (u64 *)0x300000;
  u32 at = 0;
  for (u32 i = 0; i < 8192; i++) { u32 next = (at + 4099) & 8191; node[at * 4] = (u64)&node[next * 4]; node[at * 4 + 1] = i; at = next; }
  u64 sum = 0; u64 *p = node;
  for (u64 k = 0; k < n; k++) { sum += p[1]; p = (u64 *)p[0]; }
  return sum;
}
#elif KERNEL == 5 /* doubles, RISC-V only: multiply-adds, which its compilers fuse, and a division */
static u64 run(u64 n) {
  double s = 0.1, x = 1.1, y = 0.3;
  for (u64 i = 0; i < n; i++) { s = s * 0.75 + x * y; x = 1.0 / (s + 1.25); y = y * 0.5 + x; if (s > 100) s = 0.1; }
  return (u64)(s * 1e9) + (u64)(x * 1e9);
}
#endif
__attribute__((section(".text.start"), naked, noreturn)) void _start(void) {
#ifdef __riscv
  __asm__ volatile("call main\n ecall");
#else
  __asm__ volatile("call main\n hlt");
#endif
}
u64 main(u64 n) { return run(n); }
