/** The built-in gateway: ARP, ping, DHCP, DNS, refusals; and hostile packets. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  Bridge,
  formatMac,
  PROTOCOL,
  plainFrame,
  read16,
  read32,
  readMac,
  sum16,
  transportOf,
  verifyChecksum,
} from "../../../plugins/lib-switch/index.ts";
import { encodeName, reverseName } from "../../../plugins/network-builtin/dns.ts";
import { Gateway } from "../../../plugins/network-builtin/gateway.ts";
import { MOST_EXTRA } from "../../../plugins/network-builtin/leases.ts";
import { readUdp, udpFrame } from "../../../plugins/network-builtin/packets.ts";
import { arpRequest, dhcpFrame, dnsQuery, echoFrame, ip, readDhcp, readDns, Station, tcpFrame } from "./client.ts";

const MAC = 0x0016_3e00_0001;
const DISCOVER = 1;
const OFFER = 2;
const REQUEST = 3;
const DECLINE = 4;
const ACK = 5;
const NAK = 6;
const INFORM = 8;

function setup(number = 0) {
  const bridge = new Bridge(`xenbr${number}`, number);
  const gateway = new Gateway(bridge);
  const station = new Station(bridge, MAC, "alpha");
  const route = { sourceMac: MAC, targetMac: gateway.mac, source: gateway.ip + 1, target: gateway.ip };
  return { bridge, gateway, station, route };
}

const bytesOf = (address: string): Uint8Array => Uint8Array.from(address.split(".").map(Number));

describe("address plan", () => {
  test("a bridge's number decides", () => {
    const { gateway } = setup(7);
    expect(gateway.ip).toBe(ip("10.0.7.1"));
    expect(formatMac(gateway.mac)).toBe("02:00:0a:00:07:01");
  });

  test("devices get addresses in the order in which they come, and keep them over a reboot", () => {
    const { bridge, gateway, station } = setup();
    const beta = new Station(bridge, MAC + 1, "beta");
    expect(gateway.leases.of(MAC)?.address).toBe(ip("10.0.0.2"));
    expect(gateway.leases.of(MAC + 1)?.address).toBe(ip("10.0.0.3"));
    station.port.detach();
    new Station(bridge, MAC + 2, "gamma");
    expect(gateway.leases.of(MAC + 2)?.address).toBe(ip("10.0.0.4"));
    new Station(bridge, MAC + 3, "alpha");
    expect(gateway.leases.of(MAC + 3)?.address).toBe(ip("10.0.0.2"));
    beta.port.detach();
    new Station(bridge, MAC + 1, "beta");
    expect(gateway.leases.of(MAC + 1)?.address).toBe(ip("10.0.0.3"));
  });

  test("an address of the spec is honoured within the network, unless somebody has it", () => {
    const { bridge, gateway } = setup();
    new Station(bridge, MAC + 1, "beta", ip("10.0.0.77"));
    new Station(bridge, MAC + 2, "gamma", ip("10.0.0.77"));
    new Station(bridge, MAC + 3, "delta", ip("192.168.1.5"));
    new Station(bridge, MAC + 4, "epsilon", ip("10.0.0.1"));
    expect([1, 2, 3, 4].map((n) => gateway.leases.of(MAC + n)?.address)).toEqual(
      ["10.0.0.77", "10.0.0.3", "10.0.0.4", "10.0.0.5"].map(ip),
    );
  });
});

describe("ARP and ping", () => {
  test("the gateway is found", () => {
    const { station, gateway } = setup();
    const [answer] = station.ask(arpRequest(MAC, ip("10.0.0.2"), gateway.ip));
    expect(readMac(answer!.bytes, 0)).toBe(MAC);
    expect(readMac(answer!.bytes, 22)).toBe(gateway.mac);
    expect(read32(answer!.bytes, 28)).toBe(gateway.ip);
    expect(station.ask(arpRequest(MAC, ip("10.0.0.2"), ip("10.0.0.9")))).toEqual([]);
  });

  test.each([0, 56, 1001, 1472])("an echo of %i bytes comes back", (size) => {
    const { station, route } = setup();
    const request = echoFrame(route, size);
    const answer = station.askIp(request)!;
    expect([answer.source, answer.target]).toEqual([route.target, route.source]);
    expect(answer.payload[0]).toBe(0);
    expect(answer.payload.subarray(4)).toEqual(request.bytes.subarray(38));
    expect(sum16(answer.payload, 0, answer.payload.length)).toBe(0xffff);
  });

  test("other networks are unreachable, and so are hosts that are not there", () => {
    const { station, route } = setup();
    const away = station.askIp(echoFrame({ ...route, target: ip("8.8.8.8") }))!;
    expect([away.protocol, away.payload[0], away.payload[1]]).toEqual([PROTOCOL.icmp, 3, 0]);
    expect(read32(away.payload, 8 + 16)).toBe(ip("8.8.8.8"));
    expect(station.askIp(echoFrame({ ...route, target: ip("10.0.0.200") }))?.payload[1]).toBe(1);
  });
});

describe("refusals", () => {
  test("TCP is reset", () => {
    const { station, route } = setup();
    const syn = station.askIp(tcpFrame(route, { flags: 2, sequence: 0xffff_ffff }))!;
    expect(syn.protocol).toBe(PROTOCOL.tcp);
    expect([read16(syn.payload, 0), read16(syn.payload, 2)]).toEqual([80, 40_000]);
    expect([syn.payload[13], read32(syn.payload, 4), read32(syn.payload, 8)]).toEqual([0x14, 0, 0]);
    const data = station.askIp(
      tcpFrame(route, { flags: 16, sequence: 5, acknowledgement: 77, data: new Uint8Array(3) }),
    )!;
    expect([data.payload[13], read32(data.payload, 4)]).toEqual([4, 77]);
    expect(station.ask(tcpFrame(route, { flags: 4 }))).toEqual([]);
  });

  test("the reset's checksum is right", () => {
    const { station, route } = setup();
    const [frame] = station.ask(tcpFrame(route, { flags: 2 }));
    expect(verifyChecksum(frame!.bytes, transportOf(frame!.bytes)!)).toBe(true);
  });

  test("UDP ports are unreachable", () => {
    const { station, route } = setup();
    const answer = station.askIp(udpFrame(route, { sourcePort: 5, targetPort: 123, data: new Uint8Array(20) }))!;
    expect([answer.payload[0], answer.payload[1]]).toEqual([3, 3]);
    expect(read16(answer.payload, 8 + 20 + 2)).toBe(123);
  });

  test("nothing is said about broken, fragmented, foreign or broadcast packets", () => {
    const { station, route } = setup();
    const broken = echoFrame(route).bytes.slice();
    broken[40]! ^= 1;
    expect(station.ask(plainFrame(broken))).toEqual([]);
    const fragment = echoFrame(route).bytes.slice();
    fragment[20] = 0x20;
    expect(station.ask(plainFrame(fragment))).toEqual([]);
    expect(station.ask(echoFrame({ ...route, source: ip("10.0.9.2") }))).toEqual([]);
    expect(station.ask(echoFrame({ ...route, targetMac: 0xffff_ffff_ffff }))).toEqual([]);
    const wrong = udpFrame(route, { sourcePort: 5, targetPort: 123, data: new Uint8Array(20) }).bytes.slice();
    wrong[50]! ^= 1;
    expect(station.ask(plainFrame(wrong))).toEqual([]);
    expect(station.ask({ bytes: wrong, checksum: "partial", segmentation: null })).toHaveLength(1);
  });
});

describe("DHCP", () => {
  test("discover, offer, request, acknowledge", () => {
    const { station, gateway } = setup();
    const [offered] = station.ask(dhcpFrame(MAC, DISCOVER));
    const offer = readDhcp(offered!);
    expect([offer.type, offer.yours]).toEqual([OFFER, "10.0.0.2"]);
    expect(readMac(offered!.bytes, 0)).toBe(MAC);
    expect([...offer.data.subarray(4, 8)]).toEqual([0xab, 0xcd, 0xef, 1]);
    expect(offer.options.get(1)).toEqual([255, 255, 255, 0]);
    expect(offer.options.get(3)).toEqual([10, 0, 0, 1]);
    expect(offer.options.get(6)).toEqual([10, 0, 0, 1]);
    expect(String.fromCharCode(...offer.options.get(15)!)).toBe("hookvisor.internal");
    expect(String.fromCharCode(...offer.options.get(12)!)).toBe("alpha");
    expect(offer.options.get(26)).toEqual([5, 220]);
    expect(offer.packet.source).toBe(gateway.ip);
    const chosen = dhcpFrame(MAC, REQUEST, [
      [50, bytesOf("10.0.0.2")],
      [54, bytesOf("10.0.0.1")],
    ]);
    const ack = readDhcp(station.ask(chosen)[0]!);
    expect([ack.type, ack.yours]).toEqual([ACK, "10.0.0.2"]);
  });

  test("answers go to everybody where the client wants it", () => {
    const { station } = setup();
    const [offered] = station.ask(
      dhcpFrame(MAC, DISCOVER, [], (data) => {
        data[10] = 0x80;
      }),
    );
    expect(readMac(offered!.bytes, 0)).toBe(0xffff_ffff_ffff);
    expect(readDhcp(offered!).packet.target).toBe(0xffff_ffff);
  });

  test("another's address is refused, another server's client is left alone", () => {
    const { station } = setup();
    expect(readDhcp(station.ask(dhcpFrame(MAC, REQUEST, [[50, bytesOf("10.0.0.99")]]))[0]!).type).toBe(NAK);
    const other = dhcpFrame(MAC, REQUEST, [
      [50, bytesOf("10.0.0.2")],
      [54, bytesOf("10.0.0.55")],
    ]);
    expect(station.ask(other)).toEqual([]);
    expect(station.ask(dhcpFrame(MAC, REQUEST))).toEqual([]);
  });

  test("inform", () => {
    const { station } = setup();
    const informed = dhcpFrame(MAC, INFORM, [], (data) => data.set(bytesOf("10.0.0.2"), 12));
    const answer = readDhcp(station.ask(informed)[0]!);
    expect([answer.type, answer.yours, answer.options.has(51)]).toEqual([ACK, "0.0.0.0", false]);
  });

  test("a declined address is not given again", () => {
    const { station } = setup();
    station.ask(
      dhcpFrame(MAC, DECLINE, [
        [50, bytesOf("10.0.0.2")],
        [54, bytesOf("10.0.0.1")],
      ]),
    );
    expect(readDhcp(station.ask(dhcpFrame(MAC, DISCOVER))[0]!).yours).toBe("10.0.0.3");
  });

  test("one guest cannot take the addresses of others, nor decline them", () => {
    const { bridge, station, gateway } = setup();
    const beta = new Station(bridge, MAC + 1, "beta");
    for (let n = 0; n < 400; n++) station.ask(dhcpFrame(0x0200_0000_1000 + n, DISCOVER));
    station.ask(
      dhcpFrame(MAC + 1, DECLINE, [
        [50, bytesOf("10.0.0.3")],
        [54, bytesOf("10.0.0.1")],
      ]),
    );
    expect(gateway.leases.all.length).toBe(2 + MOST_EXTRA);
    expect(readDhcp(beta.ask(dhcpFrame(MAC + 1, DISCOVER))[0]!).yours).toBe("10.0.0.3");
    const gamma = new Station(bridge, MAC + 2, "gamma");
    expect(gamma.ask(dhcpFrame(MAC + 2, DISCOVER))).toHaveLength(1);
  });
});

describe("DNS", () => {
  const ask = (name: string, type = 1) => {
    const { bridge, station, route } = setup();
    new Station(bridge, MAC + 1, "Beta");
    const answer = station.askIp(udpFrame(route, { sourcePort: 999, targetPort: 53, data: dnsQuery(name, type) }))!;
    const udp = readUdp(answer)!;
    expect(udp.targetPort).toBe(999);
    const read = readDns(udp.data);
    expect(read.end).toBe(udp.data.length);
    return read;
  };

  test("names of domains, with and without the domain", () => {
    for (const name of ["beta", "BETA", "beta.hookvisor.internal"])
      expect(ask(name)).toMatchObject({ code: 0, answers: [[10, 0, 0, 3]] });
    expect(ask("gateway")).toMatchObject({ code: 0, answers: [[10, 0, 0, 1]] });
  });

  test("what is not known does not exist; a known name has no other records", () => {
    expect(ask("www.debian.org")).toMatchObject({ code: 3, answers: [] });
    expect(ask("")).toMatchObject({ code: 3, answers: [] });
    expect(ask("beta", 28)).toMatchObject({ code: 0, answers: [] });
  });

  test("addresses in reverse", () => {
    expect(ask(reverseName(ip("10.0.0.3")), 12).answers).toEqual([[...encodeName("Beta.hookvisor.internal")]]);
    expect(ask(reverseName(ip("10.0.0.9")), 12).code).toBe(3);
  });

  test("queries that are none", () => {
    const { station, route } = setup();
    const query = (data: Uint8Array) =>
      station.ask(udpFrame(route, { sourcePort: 999, targetPort: 53, data })).map((f) => f.bytes[42 + 3]! & 15);
    expect(query(new Uint8Array(5))).toEqual([]);
    expect(query(dnsQuery("beta", 1).subarray(0, 15))).toEqual([1]);
    const looped = dnsQuery("beta", 1);
    looped[12] = 0xc0;
    expect(query(looped)).toEqual([1]);
    const status = dnsQuery("beta", 1);
    status[2] = 0x10;
    expect(query(status)).toEqual([4]);
  });
});

test("whatever it is sent: no exception, and at most one answer", () => {
  const { station, route, gateway } = setup();
  const seeds = [
    echoFrame(route).bytes,
    tcpFrame(route, { flags: 2 }).bytes,
    udpFrame(route, { sourcePort: 9, targetPort: 53, data: dnsQuery("alpha", 1) }).bytes,
    dhcpFrame(MAC, DISCOVER).bytes,
    arpRequest(MAC, 0, gateway.ip).bytes,
  ];
  fc.assert(
    fc.property(
      fc.nat(seeds.length - 1),
      fc.array(fc.tuple(fc.nat(330), fc.nat(255)), { maxLength: 6 }),
      fc.nat(350),
      fc.constantFrom("full", "valid", "partial"),
      (seed, changes, length, checksum) => {
        const bytes = seeds[seed]!.slice(0, 14 + length);
        for (const [at, value] of changes) if (14 + at < bytes.length) bytes[14 + at] = value;
        expect(station.ask({ bytes, checksum: checksum as "full", segmentation: null }).length).toBeLessThanOrEqual(1);
      },
    ),
    { numRuns: 2000 },
  );
});
