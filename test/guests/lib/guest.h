/*
 * What every test kernel shares: types, hypercalls, output, the shared info page, events, page tables, XenStore.
 *
 * A kernel is one file in src/ that defines guest_main. It runs as a 64-bit PV domain on one stack; a further vCPU (smp)
 * has its own. ABI numbers and structures come from Xen's public headers, here included.
 *
 * The form of 2007 (LEGACY) differs in how it is entered and in the calls that were different then: set_callbacks instead
 * of callback_op, sched_op_compat, event_channel_op_compat.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

#define PAGE_SIZE 4096ul
#define PTE_P 1ul
#define PTE_RW 2ul
#define PTE_US 4ul
#define PTE_A 0x20ul
#define PTE_D 0x40ul
#define PTE_FLAGS (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)
#define PTE_FRAME(pte) (((pte) & 0x000ffffffffff000ul) >> 12)

#define barrier() __asm__ volatile("" ::: "memory")
#define memory_fence() __asm__ volatile("mfence" ::: "memory")
#define PAGE_DATA __attribute__((section(".bss.page"), aligned(4096)))
#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

typedef uint64_t u64;
typedef uint32_t u32;

/* The kernel's own work; what it returns is the reason of the domain's shutdown (SHUTDOWN_poweroff is 0). */
int guest_main(void);

/* ---- runtime.c: start, output, shutdown ---- */
extern start_info_t *start_info;
extern shared_info_t *shared_info;

long hypercall_raw(u64 number, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5);
/* hypercall(number, up to five arguments of any integer or pointer type) */
#define hypercall(...) HYPERCALL_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define HYPERCALL_(number, a1, a2, a3, a4, a5, ...) \
  hypercall_raw(number, (u64)(a1), (u64)(a2), (u64)(a3), (u64)(a4), (u64)(a5))

/* Registers at a trap, lowest address first; see start.S. */
struct trap_frame {
  u64 r15, r14, r13, r12, rbp, rbx, r10, r9, r8, rdi, rsi, rdx, rax, rcx, r11, code, rip, cs, rflags, rsp, ss;
};

/* Where print writes: Xen's own console (the console_io hypercall) or the domain's console ring. */
enum console { CONSOLE_IO, CONSOLE_RING };
void console_choose(enum console which);
void console_write(const char *text, size_t length);
/* Takes up to `size` bytes that were typed; 0 if there are none. */
size_t console_read(char *into, size_t size);
/* %s %c %d %u %x %p with l, a width and a leading 0. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
size_t format_text(char *into, size_t size, const char *format, va_list arguments);
size_t format_to(char *into, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* "EINVAL" for 22 and for -22; "0" for 0. */
const char *errno_name(long error);
/* One attempt of a hostile kernel: "NAME: got -EINVAL". */
void got(const char *attempt, long result);
/* Value of KEY=VALUE on the command line as a number, or `otherwise`. */
long option(const char *key, long otherwise);
int option_is(const char *key, const char *value);
void shutdown(unsigned reason) __attribute__((noreturn));
void yield_cpu(void);

void *memset(void *to, int byte, size_t length);
void *memcpy(void *to, const void *from, size_t length);
size_t strlen(const char *text);
int text_equal(const char *a, const char *b);

/* ---- clock.c: time as the shared info page tells it ---- */
u64 read_tsc(void);
/* Nanoseconds since the host started, as this vCPU sees them. */
u64 system_time(void);
/* Seconds and nanoseconds since 1970. */
void wall_clock(u64 *seconds, u32 *nanoseconds);

/* ---- memory.c: frames and page tables ---- */
u64 frame_of(const volatile void *address);         /* mfn behind a virtual address of the initial mapping */
void *address_of_frame(u64 mfn);              /* the reverse, by the machine-to-physical table */
u64 *entry_of(const volatile void *address, u64 *table);      /* the L1 entry that maps it, and that table's mfn */
long map_frame(volatile void *at, u64 mfn, u64 flags); /* update_va_mapping with a flush of that address */
long mmu_update_one(u64 pointer, u64 value, u32 owner);
long mmuext_one(u32 command, u64 mfn);

/* ---- events.c: event channels, upcalls, traps ---- */
typedef void (*event_handler)(evtchn_port_t port);
void events_start(void);
long event_op(int command, void *argument);
void event_bind(evtchn_port_t port, event_handler handler); /* and unmasks it */
void event_mask(evtchn_port_t port);
void event_unmask(evtchn_port_t port);
void event_clear(evtchn_port_t port);
int event_pending(evtchn_port_t port);
long event_send(evtchn_port_t port);
/* Sleeps until something may have happened on `port`; the caller looks again. Works without events_start. */
void event_wait(evtchn_port_t port);
/* Blocks with upcalls on; needs events_start. Returns with upcalls off. */
void block(void);
void upcalls_off(void);
void upcalls_on(void);
/* Sleeps by VIRQ_TIMER; needs events_start. */
void sleep_for(u64 nanoseconds);
void sleep_until(u64 time);
unsigned this_vcpu(void);
/* Starts vCPU 1 at `function`. */
long second_vcpu_start(void (*function)(void));

long try_write(volatile u64 *address, u64 value);
long try_read(const volatile u64 *address, u64 *value);
extern struct { unsigned count, vector; u64 code, address; } last_trap;

/* ---- grants.c ---- */
int grants_start(void);
extern grant_entry_v1_t *grant_table;
#define GRANT_ENTRIES 512
void grant_access(grant_ref_t ref, domid_t to, u64 mfn, unsigned flags);
/* 1 if the grant could be withdrawn; 0 while it is in use. */
int grant_withdraw(grant_ref_t ref);

/* ---- xenstore.c: requests over the ring; every answer is NUL-terminated ---- */
#define XS_ANSWER 4096
extern char xs_answer[XS_ANSWER + 1];
extern size_t xs_answer_length;
/*
 * Sends texts, each with its NUL but the last as long as it is told (XS_WITH_NUL: with its NUL), and waits.
 * 0, or -1 with the error's name in xs_answer.
 */
#define XS_WITH_NUL ((size_t)-1)
int xs_request(u32 type, u32 transaction, unsigned count, const char *const *parts, size_t last_length);
int xs_request_1(u32 type, u32 transaction, const char *text);
int xs_read(const char *path);
int xs_write(const char *path, const char *value);
int xs_directory(const char *path);
int xs_permissions(const char *path, domid_t owner, domid_t reader);
/* Waits for a watch event; its path and token are in xs_event. */
void xs_wait_event(void);
extern char xs_event[XS_ANSWER + 1];
extern size_t xs_event_length;
volatile struct xenstore_domain_interface *xs_ring(void);
/* Own domain id, as the relative node domid says; 0 if that is unreadable. */
domid_t own_domid(void);

#endif
