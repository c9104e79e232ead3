/*
 * Event channels in their 2-level form, upcalls and traps.
 *
 * Xen sets a port's pending bit, the selector bit of its word, then evtchn_upcall_pending, and calls event_entry if
 * evtchn_upcall_mask is 0, setting it. Handlers run with upcalls masked; iret restores the mask from IF.
 *
 * Invariant: everything is masked until a port is bound here, so that no port nobody handles keeps the upcall coming.
 */
#include "guest.h"

extern char event_entry[], failsafe_entry[], second_start[];
extern char trap_divide[], trap_breakpoint[], trap_invalid[], trap_protection[], trap_page[];
extern char try_write_access[], try_read_access[], try_fixup[];

#define PORTS 64
static event_handler handlers[PORTS];
/* The ports (all of word 0) that vCPU 1 bound: either vCPU leaves the other's alone. */
static volatile u64 second_ports;
static char second_stack[8192] __attribute__((aligned(16)));

typeof(last_trap) last_trap;

static const trap_info_t traps[] = {
    {0, 0, FLAT_KERNEL_CS, (u64)trap_divide},      {3, 3, FLAT_KERNEL_CS, (u64)trap_breakpoint},
    {6, 0, FLAT_KERNEL_CS, (u64)trap_invalid},     {13, 0, FLAT_KERNEL_CS, (u64)trap_protection},
    {14, 4, FLAT_KERNEL_CS, (u64)trap_page},       {0, 0, 0, 0},
};

static void set_bit(volatile xen_ulong_t *words, unsigned bit) {
  __asm__ volatile("lock btsq %1, %0" : "+m"(words[bit / 64]) : "r"((u64)bit % 64) : "memory");
}

static void clear_bit(volatile xen_ulong_t *words, unsigned bit) {
  __asm__ volatile("lock btrq %1, %0" : "+m"(words[bit / 64]) : "r"((u64)bit % 64) : "memory");
}

unsigned this_vcpu(void) {
  char here;
  return &here >= second_stack && &here < second_stack + sizeof(second_stack);
}

static vcpu_info_t *my_info(void) { return &shared_info->vcpu_info[this_vcpu()]; }

long event_op(int command, void *argument) {
#ifdef LEGACY
  /* The argument's structure goes into a union behind the command, and comes back from there. */
  static const unsigned char sizes[] = {
      [EVTCHNOP_bind_interdomain] = sizeof(evtchn_bind_interdomain_t),
      [EVTCHNOP_bind_virq] = sizeof(evtchn_bind_virq_t),
      [EVTCHNOP_close] = sizeof(evtchn_close_t),
      [EVTCHNOP_send] = sizeof(evtchn_send_t),
      [EVTCHNOP_status] = sizeof(evtchn_status_t),
      [EVTCHNOP_alloc_unbound] = sizeof(evtchn_alloc_unbound_t),
      [EVTCHNOP_bind_ipi] = sizeof(evtchn_bind_ipi_t),
      [EVTCHNOP_bind_vcpu] = sizeof(evtchn_bind_vcpu_t),
      [EVTCHNOP_unmask] = sizeof(evtchn_unmask_t),
  };
  size_t size = (unsigned)command < sizeof(sizes) ? sizes[command] : 0;
  evtchn_op_t operation = {.cmd = command};
  memcpy(&operation.u, argument, size);
  long result = hypercall(__HYPERVISOR_event_channel_op_compat, &operation);
  memcpy(argument, &operation.u, size);
  return result;
#else
  return hypercall(__HYPERVISOR_event_channel_op, (long)command, argument);
#endif
}

void event_mask(evtchn_port_t port) { set_bit(shared_info->evtchn_mask, port); }
void event_clear(evtchn_port_t port) { clear_bit(shared_info->evtchn_pending, port); }
int event_pending(evtchn_port_t port) { return shared_info->evtchn_pending[port / 64] >> (port % 64) & 1; }

void event_unmask(evtchn_port_t port) {
  /* By hypercall: Xen then sets the selector and pending bits if the event is already there. */
  struct evtchn_unmask argument = {.port = port};
  event_op(EVTCHNOP_unmask, &argument);
}

long event_send(evtchn_port_t port) {
  struct evtchn_send argument = {.port = port};
  return event_op(EVTCHNOP_send, &argument);
}

void event_bind(evtchn_port_t port, event_handler handler) {
  if (port >= PORTS) return;
  handlers[port] = handler;
  if (this_vcpu() != 0) second_ports |= 1ul << port;
  event_unmask(port);
}

void upcalls_off(void) {
  my_info()->evtchn_upcall_mask = 1;
  barrier();
}

void upcalls_on(void) {
  vcpu_info_t *info = my_info();
  barrier();
  info->evtchn_upcall_mask = 0;
  barrier();
  /* Any hypercall delivers what came while masked. */
  if (info->evtchn_upcall_pending) hypercall(__HYPERVISOR_xen_version, XENVER_version, 0l);
}

/* Called by event_entry. */
void handle_upcall(void) {
  vcpu_info_t *info = my_info();
  info->evtchn_upcall_pending = 0;
  u64 words = __atomic_exchange_n(&info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
  for (; words != 0; words &= words - 1) {
    unsigned word = __builtin_ctzl(words);
    u64 ready;
    u64 mine = this_vcpu() != 0 ? (word == 0 ? second_ports : 0) : (word == 0 ? ~second_ports : ~0ul);
    while ((ready = shared_info->evtchn_pending[word] & ~shared_info->evtchn_mask[word] & mine) != 0) {
      evtchn_port_t port = word * 64 + __builtin_ctzl(ready);
      event_clear(port);
      if (port < PORTS && handlers[port] != NULL) handlers[port](port);
      else event_mask(port);
    }
  }
}

/* Called by the trap entries: an access of try_write or try_read goes on at its fixup, all else ends the domain. */
void handle_trap(unsigned vector, struct trap_frame *frame) {
  last_trap.count++;
  last_trap.vector = vector;
  last_trap.code = frame->code;
  last_trap.address = vector == 14 ? my_info()->arch.cr2 : 0;
  if (frame->rip == (u64)try_write_access || frame->rip == (u64)try_read_access) {
    frame->rip = (u64)try_fixup;
    return;
  }
  if (vector == 3) return;
  if (vector == 6) {
    frame->rip += 2; /* ud2 */
    return;
  }
  print("trap %u, error code %lx, address %lx, rip %lx\n", vector, frame->code, last_trap.address, frame->rip);
  shutdown(SHUTDOWN_crash);
}

void events_start(void) {
  upcalls_off();
  for (size_t i = 0; i < ARRAY_LENGTH(shared_info->evtchn_mask); i++) shared_info->evtchn_mask[i] = ~0ul;
  hypercall(__HYPERVISOR_set_trap_table, traps);
#ifdef LEGACY
  hypercall(__HYPERVISOR_set_callbacks, event_entry, failsafe_entry, 0l);
#else
  struct callback_register event = {.type = CALLBACKTYPE_event, .address = (u64)event_entry};
  struct callback_register failsafe = {.type = CALLBACKTYPE_failsafe, .address = (u64)failsafe_entry};
  hypercall(__HYPERVISOR_callback_op, (long)CALLBACKOP_register, &event);
  hypercall(__HYPERVISOR_callback_op, (long)CALLBACKOP_register, &failsafe);
#endif
  upcalls_on();
}

void block(void) {
#ifdef LEGACY
  hypercall(__HYPERVISOR_sched_op_compat, SCHEDOP_block, 0l);
#else
  hypercall(__HYPERVISOR_sched_op, SCHEDOP_block, 0l);
#endif
  upcalls_off();
}

void event_wait(evtchn_port_t port) {
#ifdef LEGACY
  (void)port;
  yield_cpu();
#else
  struct sched_poll poll = {.nr_ports = 1};
  set_xen_guest_handle(poll.ports, &port);
  hypercall(__HYPERVISOR_sched_op, SCHEDOP_poll, &poll);
#endif
}

static volatile int timer_fired;
static evtchn_port_t timer_port;

static void timer_event(evtchn_port_t port) {
  (void)port;
  timer_fired = 1;
}

void sleep_until(u64 until) {
  if (timer_port == 0) {
    struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};
    if (event_op(EVTCHNOP_bind_virq, &bind) != 0) return;
    timer_port = bind.port;
    event_bind(timer_port, timer_event);
  }
  upcalls_off();
  while (system_time() < until) {
    timer_fired = 0;
    hypercall(__HYPERVISOR_set_timer_op, until);
    while (!timer_fired) block();
  }
  upcalls_on();
}

void sleep_for(u64 nanoseconds) { sleep_until(system_time() + nanoseconds); }

long second_vcpu_start(void (*function)(void)) {
  static vcpu_guest_context_t context;
  /* The structure's table is indexed by vector. */
  memset(context.trap_ctxt, 0, sizeof(context.trap_ctxt));
  for (size_t i = 0; traps[i].address != 0; i++) context.trap_ctxt[traps[i].vector] = traps[i];
  context.flags = VGCF_in_kernel;
  context.user_regs.rip = (u64)second_start;
  context.user_regs.rsp = (u64)second_stack + sizeof(second_stack);
  context.user_regs.rdi = (u64)function;
  context.user_regs.cs = FLAT_KERNEL_CS;
  context.user_regs.ss = FLAT_KERNEL_SS;
  context.kernel_ss = FLAT_KERNEL_SS;
  context.kernel_sp = (u64)second_stack + sizeof(second_stack);
  context.ctrlreg[3] = frame_of((void *)start_info->pt_base) << 12;
  context.event_callback_eip = (u64)event_entry;
  context.failsafe_callback_eip = (u64)failsafe_entry;
  long result = hypercall(__HYPERVISOR_vcpu_op, (long)VCPUOP_initialise, 1l, &context);
  return result != 0 ? result : hypercall(__HYPERVISOR_vcpu_op, (long)VCPUOP_up, 1l, 0l);
}
