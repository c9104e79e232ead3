/**
 * The hypercall page: 128 stubs of 32 bytes, one a hypercall (Xen: hvm/hypercall.c, pv init_hypercall_page).
 *
 * push rcx; push r11; mov nr, eax; syscall; pop r11; pop rcx; ret. iret's stub pushes rcx, r11 and rax and does not return.
 */
import { xen } from "hookvisor";

const STUBS = 128;
const STUB_BYTES = 32;

/** Writes the stubs into a page. */
export function writeHypercallPage(page: Uint8Array): void {
  page.fill(0xcc);
  for (let nr = 0; nr < STUBS; nr++) {
    const call =
      nr === xen.__HYPERVISOR.iret
        ? [0x51, 0x41, 0x53, 0x50, 0xb8, nr, 0, 0, 0, 0x0f, 0x05]
        : [0x51, 0x41, 0x53, 0xb8, nr, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3];
    page.set(call, nr * STUB_BYTES);
  }
}
