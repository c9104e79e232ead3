/*
 * Where a test kernel starts, how it calls Xen, and where Xen calls it.
 *
 * Two forms of every kernel come from here: with ELF notes and `syscall` as a hypercall (today's kernels), and, where
 * LEGACY is defined, with the __xen_guest section and the hypercall page (kernels of 2007). A kernel built with
 * HYPERCALL_PAGE has ELF notes and the page.
 *
 * Invariants: the stack is 16-byte aligned before each call into C; everything that an upcall or a trap interrupts is
 * restored, flags through Xen's iret included, whose IF bit carries the upcall mask.
 */
#define __ASSEMBLY__
#include <xen/xen.h>
#include <xen/elfnote.h>

#if defined(LEGACY) && !defined(HYPERCALL_PAGE)
#define HYPERCALL_PAGE
#endif

#define STR_(x) #x
#define STR(x) STR_(x)

#ifdef LEGACY
	.section __xen_guest, "", @progbits
	.ascii "GUEST_OS=hookvisor-" STR(KERNEL)
	.ascii ",GUEST_VER=2007"
	.ascii ",XEN_VER=xen-3.0"
	.ascii ",VIRT_BASE=" STR(VIRT_BASE)
	.ascii ",HYPERCALL_PAGE=0x" STR(HYPERCALL_PFN)
	.ascii ",FEATURES=!writable_page_tables|pae_pgdir_above_4gb"
	.ascii ",PAE=yes"
	.ascii ",LOADER=generic"
	.byte 0
#else
	.macro elfnote type:req, content:vararg
	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 2f - 1f, \type
	.asciz "Xen"
1:	\content
2:	.balign 4
	.endm
	elfnote XEN_ELFNOTE_GUEST_OS, .asciz "hookvisor-" STR(KERNEL)
	elfnote XEN_ELFNOTE_GUEST_VERSION, .asciz "1"
	elfnote XEN_ELFNOTE_LOADER, .asciz "generic"
	elfnote XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
	elfnote XEN_ELFNOTE_VIRT_BASE, .quad VIRT_BASE
	elfnote XEN_ELFNOTE_ENTRY, .quad _start
	elfnote XEN_ELFNOTE_PAE_MODE, .asciz "yes"
	elfnote XEN_ELFNOTE_FEATURES, .asciz "!writable_page_tables|pae_pgdir_above_4gb"
#ifdef HYPERCALL_PAGE
	elfnote XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page
#endif
#endif

/* rsi: start_info; rsp: the stack that the domain builder made. */
	.section .text.start, "ax", @progbits
	.globl _start
_start:
	cld
	mov %rsi, %rdi
	lea boot_stack_end(%rip), %rsp
	xor %ebp, %ebp
	call guest_start
	ud2

#ifdef LEGACY
/* The legacy section names the page by its number, which must be known to the assembler: page HYPERCALL_PFN. */
	.org 0x1000 * HYPERCALL_PFN
	.globl hypercall_page
hypercall_page:
	.skip 4096
#elif defined(HYPERCALL_PAGE)
	.section .bss.page, "aw", @nobits
	.balign 4096
	.globl hypercall_page
hypercall_page:
	.skip 4096
#endif

	.section .bss, "aw", @nobits
	.balign 16
	.skip 16384
boot_stack_end:

/* long hypercall_raw(number, a1, a2, a3, a4, a5): Xen takes rdi, rsi, rdx, r10, r8 and the number in rax. */
	.text
	.globl hypercall_raw
hypercall_raw:
	mov %rdi, %rax
	mov %rsi, %rdi
	mov %rdx, %rsi
	mov %rcx, %rdx
	mov %r8, %r10
	mov %r9, %r8
#ifdef HYPERCALL_PAGE
	mov %rax, %rcx
	shl $5, %rcx
	lea hypercall_page(%rip), %r11
	add %r11, %rcx
	jmp *%rcx
#else
	syscall
	ret
#endif

/*
 * The frame that Xen pushes is rcx, r11, [error code], rip, cs, rflags, rsp, ss. These macros turn it into C's view
 * (struct trap_frame in guest.h) and back into the frame of Xen's iret: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss.
 */
	.macro save_registers
	push %rax
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	.endm

/* On the stack: iret's flags, rip, cs, rflags, rsp, ss. */
	.macro xen_iret
#ifdef HYPERCALL_PAGE
	jmp hypercall_page + __HYPERVISOR_iret * 32	/* This stub pushes the three registers itself. */
#else
	push %rcx
	push %r11
	push %rax
	mov $__HYPERVISOR_iret, %eax
	syscall
	ud2
#endif
	.endm

	.macro restore_registers
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rax
	.endm

/* From here the stack is: 13 registers, rcx, r11, code, rip, cs, rflags, rsp, ss. */
return_from_trap:
	restore_registers
	pop %rcx
	pop %r11
	movq $0, (%rsp)		/* The error code's place becomes iret's flags. */
	xen_iret

	.macro without_code vector:req
	/* Makes room for an error code below rcx and r11: both move one place down. */
	sub $8, %rsp
	push %rax
	mov 16(%rsp), %rax
	mov %rax, 8(%rsp)
	mov 24(%rsp), %rax
	mov %rax, 16(%rsp)
	movq $0, 24(%rsp)
	pop %rax
	save_registers
	mov $\vector, %edi
	.endm

	.globl event_entry
event_entry:
	without_code 0
	mov %rsp, %rbx
	and $-16, %rsp
	call handle_upcall
	mov %rbx, %rsp
	jmp return_from_trap

/* Xen could not load a segment register on the way back: it pushed ds, es, fs, gs after rcx and r11. We use none of them. */
	.globl failsafe_entry
failsafe_entry:
	mov (%rsp), %rcx
	mov 8(%rsp), %r11
	add $48, %rsp
	pushq $0
	xen_iret

common_trap:
	mov %rsp, %rsi
	mov %rsp, %rbx
	and $-16, %rsp
	call handle_trap
	mov %rbx, %rsp
	jmp return_from_trap

	.macro trap_without name:req, vector:req
	.globl \name
\name:
	without_code \vector
	jmp common_trap
	.endm

	.macro trap_with name:req, vector:req
	.globl \name
\name:
	save_registers
	mov $\vector, %edi
	jmp common_trap
	.endm

	trap_without trap_divide, 0
	trap_without trap_breakpoint, 3
	trap_without trap_invalid, 6
	trap_with trap_protection, 13
	trap_with trap_page, 14

/*
 * long try_write(uint64_t *address, uint64_t value), long try_read(const uint64_t *address, uint64_t *value):
 * 0, or -1 where the access faults: handle_trap goes on at the fixup.
 */
	.globl try_write, try_write_access, try_read, try_read_access, try_fixup
try_write:
try_write_access:
	mov %rsi, (%rdi)
	xor %eax, %eax
	ret
try_read:
try_read_access:
	mov (%rdi), %rax
	mov %rax, (%rsi)
	xor %eax, %eax
	ret
try_fixup:
	mov $-1, %rax
	ret

/* Where a second vCPU starts: its stack is what VCPUOP_initialise was told, its function in rdi. */
	.globl second_start
second_start:
	cld
	xor %ebp, %ebp
	call *%rdi
	ud2

	.section .note.GNU-stack, "", @progbits
