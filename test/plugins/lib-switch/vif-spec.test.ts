/** Network specifications in xl's syntax, and every message about wrong ones. */
import { describe, expect, test } from "vitest";
import { parseVifSpec } from "../../../plugins/lib-switch/vif-spec.ts";

const DEFAULTS = {
  mac: null,
  bridge: "xenbr0",
  vifname: null,
  ip: null,
  mtu: 1500,
  devid: null,
  trusted: true,
  ignored: [],
};

describe("vif specs", () => {
  test.each([
    ["", {}],
    [" , ", {}],
    ["mac=00:16:3E:01:02:03,bridge=lan", { mac: 0x0016_3e01_0203, bridge: "lan" }],
    [
      "bridge=xenbr1, vifname=web.0, ip=10.0.1.9, mtu=9000, devid=3",
      { bridge: "xenbr1", vifname: "web.0", ip: 0x0a00_0109, mtu: 9000, devid: 3 },
    ],
    ["type=vif,backend=0,trusted=0", { trusted: false }],
    ["mac=,bridge=", {}],
    [
      "script=vif-bridge,model=e1000,rate=10Mb/s,type=ioemu,vlan=5",
      { ignored: ["script", "model", "rate", "type", "vlan"] },
    ],
  ])("%s", (spec, expected) => {
    expect(parseVifSpec(spec)).toEqual({ ...DEFAULTS, ...expected });
  });

  test("errors", () => {
    const texts = [
      "xenbr0",
      "mac=00:16:3e:01:02",
      "mac=01:16:3e:01:02:03",
      "bridge=a b",
      "vifname=/x",
      "ip=dhcp",
      "mtu=20",
      "mtu=big",
      "devid=-1",
      "type=tap",
      "trusted=yes",
      "backend=netdom",
      "colour=red",
      "bridge=a,bridge=b",
    ].map((spec) => {
      try {
        return JSON.stringify(parseVifSpec(spec));
      } catch (error) {
        return (error as Error).message;
      }
    });
    expect(texts).toMatchInlineSnapshot(`
      [
        "Network device 'xenbr0': 'xenbr0' is no KEY=VALUE; an example is mac=00:16:3e:01:02:03,bridge=xenbr0.",
        "Network device 'mac=00:16:3e:01:02': mac is '00:16:3e:01:02'; it must be the address of one station, such as 00:16:3e:01:02:03.",
        "Network device 'mac=01:16:3e:01:02:03': mac is '01:16:3e:01:02:03'; it must be the address of one station, such as 00:16:3e:01:02:03.",
        "Network device 'bridge=a b': bridge is 'a b'; it must be a name of letters, digits, '.', '-' and '_'.",
        "Network device 'vifname=/x': vifname is '/x'; it must be a name of letters, digits, '.', '-' and '_'.",
        "Network device 'ip=dhcp': ip is 'dhcp'; it must be an IPv4 address, such as 10.0.0.5.",
        "Network device 'mtu=20': mtu is '20'; it must be a number from 68 to 65521.",
        "Network device 'mtu=big': mtu is 'big'; it must be a number from 68 to 65521.",
        "Network device 'devid=-1': devid is '-1'; it must be a number from 0 to 65535.",
        "Network device 'type=tap': type is 'tap'; it must be vif.",
        "Network device 'trusted=yes': trusted is 'yes'; it must be 0 or 1.",
        "Network device 'backend=netdom': 'backend' is not supported; backends run inside the hypervisor.",
        "Network device 'colour=red': there is no parameter 'colour'; there are mac, bridge, vifname, ip, mtu, devid, trusted, type.",
        "Network device 'bridge=a,bridge=b': it gives bridge twice.",
      ]
    `);
  });
});
