/*
 * Runs single floating-point instructions on the host's own x86-64 CPU.
 *
 * One request a line on standard input, one answer a line on standard output, fields separated by a blank, all
 * hexadecimal; byte strings in memory order.
 *   request: code fcw fsw ftw mxcsr st0..st7 (10 bytes each, one string) xmm0xmm1 (32 bytes) memory rax rflags
 *   answer:  signal fcw fsw ftw mxcsr st0..st7 xmm0xmm1 memory rax rflags
 * `ftw` is the abridged tag byte of FXSAVE. The code runs with rdi at the memory operand (16-byte aligned) and ends by
 * itself (a return is appended). A SIGFPE, SIGSEGV or SIGILL ends it: the answer then has the state at the fault.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static unsigned char image[512] __attribute__((aligned(64)));
static unsigned char result[512] __attribute__((aligned(64)));
static unsigned char memory[1024] __attribute__((aligned(64)));
static uint64_t accumulator, flags;
static unsigned char *code;
static sigjmp_buf trapped;

static void on_signal(int number, siginfo_t *info, void *context) {
  ucontext_t *machine = context;
  (void)info;
  memcpy(result, machine->uc_mcontext.fpregs, 512);
  accumulator = machine->uc_mcontext.gregs[REG_RAX];
  flags = machine->uc_mcontext.gregs[REG_EFL];
  siglongjmp(trapped, number);
}

static void run(void) {
  uint64_t a = accumulator, f = flags;
  __asm__ volatile(
      "fxrstor64 %[image]\n\t"
      "push %[f]\n\t"
      "popfq\n\t"
      "call *%[code]\n\t"
      "fxsave64 %[result]\n\t"
      "pushfq\n\t"
      "pop %[f]\n\t"
      "fninit\n\t"
      : "+a"(a), [f] "+r"(f), [result] "=m"(result)
      : [image] "m"(image), [code] "r"(code), "D"(memory)
      : "memory", "cc", "rcx", "rdx", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "st", "st(1)", "st(2)", "st(3)", "st(4)",
        "st(5)", "st(6)", "st(7)");
  accumulator = a;
  flags = f;
}

static int bytes(const char *text, unsigned char *out, int limit) {
  int n = 0;
  for (; text[0] && text[1] && n < limit; text += 2, n++) {
    char pair[3] = {text[0], text[1], 0};
    out[n] = (unsigned char)strtoul(pair, 0, 16);
  }
  return n;
}

static void print(const unsigned char *data, int n) {
  for (int i = 0; i < n; i++) printf("%02x", data[i]);
}

int main(void) {
  static char line[8192];
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGFPE, &action, 0);
  sigaction(SIGSEGV, &action, 0);
  sigaction(SIGILL, &action, 0);
  code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 1;
  while (fgets(line, sizeof line, stdin)) {
    char *field[10];
    int fields = 0;
    for (char *part = strtok(line, " \n"); part && fields < 10; part = strtok(0, " \n")) field[fields++] = part;
    if (fields != 10) return 2;
    int length = bytes(field[0], code, 256);
    code[length] = 0xc3;
    memset(image, 0, sizeof image);
    memset(memory, 0xcc, sizeof memory);
    *(uint16_t *)(image + 0) = (uint16_t)strtoul(field[1], 0, 16);
    *(uint16_t *)(image + 2) = (uint16_t)strtoul(field[2], 0, 16);
    image[4] = (unsigned char)strtoul(field[3], 0, 16);
    *(uint32_t *)(image + 24) = (uint32_t)strtoul(field[4], 0, 16);
    unsigned char stack[80] = {0};
    bytes(field[5], stack, 80);
    for (int i = 0; i < 8; i++) memcpy(image + 32 + 16 * i, stack + 10 * i, 10);
    bytes(field[6], image + 160, 32);
    int operand = field[7][0] == '-' ? 0 : bytes(field[7], memory, sizeof memory);
    accumulator = strtoull(field[8], 0, 16);
    flags = strtoull(field[9], 0, 16);
    int number = sigsetjmp(trapped, 1);
    if (number == 0) run();
    __asm__ volatile("fninit");
    uint32_t usual = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(usual));
    printf("%x %x %x %x %x ", number, *(uint16_t *)result, *(uint16_t *)(result + 2), result[4],
           *(uint32_t *)(result + 24));
    for (int i = 0; i < 8; i++) print(result + 32 + 16 * i, 10);
    putchar(' ');
    print(result + 160, 32);
    putchar(' ');
    if (operand) print(memory, operand);
    else putchar('-');
    printf(" %llx %llx\n", (unsigned long long)accumulator, (unsigned long long)flags & 0xcd5);
  }
  return 0;
}
