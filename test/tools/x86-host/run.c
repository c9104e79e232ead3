/*
 * Runs short pieces of x86-64 machine code on the host's own CPU, each with given registers, and reports what they did.
 *
 * Design: one process. For each record the code is copied to a page that ends in int3; SIGUSR1's handler replaces the
 * interrupted context by the wanted one (general registers, flags, FXSAVE image), so that returning from it runs the code;
 * int3 or a fault arrives as a signal on an alternate stack, whose handler stores the context and goes back.
 *
 * Memory the code may touch: SCRATCH (two pages, the second followed by nothing), READONLY (one page, not writable).
 * Input, binary, little endian, one after another:   struct input; output: struct output.
 * Code must not touch fs, gs, the system, or loop for ever (a 2 s timer ends the process).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE 0x10000000ul
#define SCRATCH 0x20000000ul
#define READONLY 0x30000000ul

struct input {
  uint32_t code_length, flags; /* flags bit 0: fx is given */
  uint8_t code[248];
  uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8..r15 */
  uint64_t rflags;
  uint8_t fx[512];
  uint8_t scratch[8192];
};
struct output {
  uint64_t gpr[16];
  uint64_t rflags;
  uint64_t rip; /* relative to CODE */
  uint32_t signal, trapno;
  uint64_t error, cr2;
  uint8_t fx[512];
  uint8_t scratch[8192];
};

static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static struct input in;
static struct output out;
static ucontext_t home;
static uint8_t home_fx[512];
static volatile int running;

static void finished(int signal, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  (void)info;
  if (signal == SIGUSR1) {
    memcpy(&home.uc_mcontext.gregs, &u->uc_mcontext.gregs, sizeof home.uc_mcontext.gregs);
    memcpy(home_fx, u->uc_mcontext.fpregs, 512);
    for (int i = 0; i < 16; i++) u->uc_mcontext.gregs[order[i]] = in.gpr[i];
    u->uc_mcontext.gregs[REG_EFL] = in.rflags;
    u->uc_mcontext.gregs[REG_RIP] = CODE;
    if (in.flags & 1) {
      memcpy(u->uc_mcontext.fpregs, in.fx, 464);
    }
    running = 1;
    return;
  }
  if (signal == SIGALRM || !running) _exit(3);
  running = 0;
  for (int i = 0; i < 16; i++) out.gpr[i] = u->uc_mcontext.gregs[order[i]];
  out.rflags = u->uc_mcontext.gregs[REG_EFL];
  out.rip = u->uc_mcontext.gregs[REG_RIP] - CODE;
  out.signal = signal;
  out.trapno = u->uc_mcontext.gregs[REG_TRAPNO];
  out.error = u->uc_mcontext.gregs[REG_ERR];
  out.cr2 = u->uc_mcontext.gregs[REG_CR2];
  memcpy(out.fx, u->uc_mcontext.fpregs, 512);
  memcpy(u->uc_mcontext.fpregs, home_fx, 464);
  memcpy(&u->uc_mcontext.gregs, &home.uc_mcontext.gregs, sizeof home.uc_mcontext.gregs);
}

static int exactly(int fd, void *at, size_t n, int writing) {
  for (size_t done = 0; done < n;) {
    ssize_t got = writing ? write(fd, (char *)at + done, n - done) : read(fd, (char *)at + done, n - done);
    if (got <= 0) return 0;
    done += got;
  }
  return 1;
}

int main(void) {
  int anon = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  uint8_t *code = mmap((void *)CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, anon, -1, 0);
  uint8_t *scratch = mmap((void *)SCRATCH, 8192, PROT_READ | PROT_WRITE, anon, -1, 0);
  uint8_t *readonly = mmap((void *)READONLY, 4096, PROT_READ | PROT_WRITE, anon, -1, 0);
  if (code != (void *)CODE || scratch != (void *)SCRATCH || readonly != (void *)READONLY) return 2;
  for (int i = 0; i < 4096; i++) readonly[i] = i * 7;
  mprotect(readonly, 4096, PROT_READ);
  static uint8_t alternate[65536];
  stack_t ss = {.ss_sp = alternate, .ss_size = sizeof alternate};
  sigaltstack(&ss, NULL);
  struct sigaction sa = {.sa_sigaction = finished, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  sigaction(SIGUSR1, &sa, NULL);
  sigaction(SIGTRAP, &sa, NULL);
  sigaction(SIGSEGV, &sa, NULL);
  sigaction(SIGBUS, &sa, NULL);
  sigaction(SIGILL, &sa, NULL);
  sigaction(SIGFPE, &sa, NULL);
  sigaction(SIGALRM, &sa, NULL);
  while (exactly(0, &in, sizeof in, 0)) {
    if (in.code_length > 247) return 2;
    memset(code, 0xcc, 512);
    memcpy(code, in.code, in.code_length);
    memcpy(scratch, in.scratch, 8192);
    memset(&out, 0, sizeof out);
    alarm(2);
    raise(SIGUSR1);
    alarm(0);
    memcpy(out.scratch, scratch, 8192);
    if (!exactly(1, &out, sizeof out, 1)) return 1;
  }
  return 0;
}
