/*
 * hello: the smallest kernel. It prints through Xen's own console (the console_io hypercall) and powers off. A Xen that
 * keeps its console for domain 0 refuses that call: then the domain's ring serves.
 */
#include "../lib/guest.h"

int guest_main(void) {
  static const char greeting[] = "Hello, Xen!\n";
  if (hypercall(__HYPERVISOR_console_io, CONSOLEIO_write, sizeof(greeting) - 1, greeting) == 0) console_choose(CONSOLE_IO);
  else print("%s", greeting);
  print("hello: %s, %lu MiB, command line \"%s\"\n", start_info->magic, start_info->nr_pages >> 8,
        (const char *)start_info->cmd_line);
  long version = hypercall(__HYPERVISOR_xen_version, XENVER_version, 0);
  print("hello: running on Xen %ld.%ld\n", version >> 16, version & 0xffff);
  return SHUTDOWN_poweroff;
}
