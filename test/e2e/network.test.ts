/**
 * Two unmodified Debian domains, of one and of four vCPUs, on one bridge: addresses by DHCP, names by DNS, pings between them and to the gateway, a file over TCP with
 * checksum and segmentation offload, and a capture of it all.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { transportOf, verifyChecksum } from "../../plugins/lib-switch/index.ts";
import { itWithImage } from "../tools/guest-image.ts";
import { hookvisor, linesOf } from "../tools/hookvisor-run.ts";

/** The host name is the domain's, told by DHCP. */
const PROMPT = "root@";
const TIMEOUT = 400_000;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-network-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The frames of a capture. */
function readCapture(path: string): Uint8Array[] {
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  expect(view.getUint32(0, true)).toBe(0xa1b23c4d);
  const frames: Uint8Array[] = [];
  for (let at = 24; at < bytes.length; ) {
    const length = view.getUint32(at + 8, true);
    frames.push(bytes.subarray(at + 16, at + 16 + length));
    at += 16 + length;
  }
  return frames;
}

describe("two Debian domains on one bridge", () => {
  itWithImage(
    "debian",
    "ping each other by name and the gateway, and send a file",
    async () => {
      const script = join(folder, "script");
      const capture = join(folder, "net.pcap");
      const typed = (name: string, line: string): string => `${name}: expect ${PROMPT}\n${name}: send ${line}\\r\\n\n`;
      // A word that the shell prints and the typed line does not have.
      const until = (name: string, word: string): string => `${name}: expect ${word}\n`;
      writeFileSync(
        script,
        [
          typed("debian", "true"),
          typed("debian-2", "ip -4 addr show eth0; nc -l -p 5000 >/tmp/got & sleep 0.1; echo two li''stens"),
          until("debian-2", "two listens"),
          typed(
            "debian",
            "ping -c 3 10.0.0.1; ping -c 3 debian-2; ping -s 9000 -c 1 debian-2; wget -q -O - http://gateway/",
          ),
          typed(
            "debian",
            "head -c 2000000 /dev/urandom >/tmp/data; nc debian-2 5000 </tmp/data; sha256sum </tmp/data; echo one se''nt",
          ),
          until("debian", "one sent"),
          typed("debian-2", "wait; sha256sum </tmp/got; grep eth0 /proc/net/dev; echo cpus: $(nproc); poweroff"),
          typed("debian", "poweroff"),
        ].join(""),
      );
      const ran = await hookvisor(
        ["run", "debian", "debian", "debian-2:vcpus=4", "--vif", "", "--pcap", capture, "--input", script],
        {
          cwd: folder,
          timeout: TIMEOUT,
        },
      );
      const one = linesOf(ran, "debian").join("\n");
      const two = linesOf(ran, "debian-2").join("\n");
      expect(ran.stderr).toBe("");
      expect(two).toContain("inet 10.0.0.3/24 ");
      expect(two).toContain("cpus: 4");
      expect(one.match(/64 bytes from 10\.0\.0\.1: seq=\d/g)).toHaveLength(3);
      expect(one.match(/64 bytes from 10\.0\.0\.3: seq=\d/g)).toHaveLength(3);
      expect(one).toContain("9008 bytes from 10.0.0.3");
      expect(one).toMatch(/wget: .*Connection refused/);
      const sum = (text: string): string | undefined => /^([0-9a-f]{64}) {2}-$/m.exec(text)?.[1];
      expect(sum(one)).toBeDefined();
      expect(sum(two)).toBe(sum(one));
      expect(ran.stdout).not.toMatch(/BUG:|WARNING:|Call Trace|Oops|Kernel panic/);
      expect(ran.code).toBe(0);
      const transports = readCapture(capture).map((bytes) => ({ bytes, transport: transportOf(bytes) }));
      const wrong = transports.filter(
        ({ bytes, transport }) => transport !== null && !verifyChecksum(bytes, transport),
      );
      expect(wrong).toEqual([]);
      expect(transports.some(({ bytes }) => bytes.length > 10_000)).toBe(true);
    },
    TIMEOUT,
  );
});
