/**
 * Network specifications as xl has them (xl-network-configuration(5)): `KEY=VALUE,...`, each key once; the empty text is a device with all defaults.
 *
 * Pure; each error is one sentence with the spec and what would be right. What is understood but changes nothing here is in `ignored`.
 */
import { ConfigError } from "hookvisor";
import { parseIpv4, parseMac } from "./frame.ts";
import { DEFAULT_BRIDGE } from "./network.ts";

/** One network device. */
export interface VifSpec {
  /** Null: made from the domain's uuid. */
  readonly mac: number | null;
  readonly bridge: string;
  /** Name of its port; null: vifDOMID.DEVID. */
  readonly vifname: string | null;
  /** Address that the gateway gives to it; null: the gateway chooses. */
  readonly ip: number | null;
  readonly mtu: number;
  /** Its number in the domain; null: the lowest free one. */
  readonly devid: number | null;
  /** The frontend may trust us. */
  readonly trusted: boolean;
  /** Keys that were given and change nothing. */
  readonly ignored: readonly string[];
}

/** Keys of xl that change nothing here. */
const IGNORED = ["script", "model", "rate", "gatewaydev", "netdev", "accel", "vlan", "colo_forwarddev"];
const KEYS = ["mac", "bridge", "vifname", "ip", "mtu", "devid", "trusted", "type"];
const LEAST_MTU = 68;
const MOST_MTU = 65_521;

/** Parses one spec. */
export function parseVifSpec(spec: string): VifSpec {
  const fail = (what: string): never => {
    throw new ConfigError(`Network device '${spec}': ${what}.`);
  };
  const values = new Map<string, string>();
  for (const part of spec.split(",").map((one) => one.trim())) {
    if (part === "") continue;
    const match = /^([a-z][a-z_-]*)\s*=\s*(.*)$/s.exec(part);
    if (match === null)
      return fail(`'${part}' is no KEY=VALUE; an example is mac=00:16:3e:01:02:03,bridge=${DEFAULT_BRIDGE}`);
    const [, key = "", value = ""] = match;
    if (key === "backend" || key === "backend-id") {
      if (value !== "0" && value !== "Domain-0") fail(`'${key}' is not supported; backends run inside the hypervisor`);
    } else if (!KEYS.includes(key) && !IGNORED.includes(key))
      fail(`there is no parameter '${key}'; there are ${KEYS.join(", ")}`);
    if (values.has(key)) fail(`it gives ${key} twice`);
    values.set(key, value);
  }
  const text = (key: string): string | undefined => (values.get(key) === "" ? undefined : values.get(key));
  const number = (key: string, least: number, most: number): number | null => {
    const value = text(key);
    if (value === undefined) return null;
    const parsed = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
    return parsed >= least && parsed <= most
      ? parsed
      : fail(`${key} is '${value}'; it must be a number from ${least} to ${most}`);
  };
  const name = (key: string): string | null => {
    const value = text(key);
    if (value === undefined) return null;
    return /^[A-Za-z0-9][\w.-]{0,31}$/.test(value)
      ? value
      : fail(`${key} is '${value}'; it must be a name of letters, digits, '.', '-' and '_'`);
  };
  const type = text("type");
  if (type !== undefined && type !== "vif" && type !== "ioemu") fail(`type is '${type}'; it must be vif`);
  const mac = text("mac");
  const ip = text("ip");
  const trusted = text("trusted");
  if (trusted !== undefined && trusted !== "0" && trusted !== "1") fail(`trusted is '${trusted}'; it must be 0 or 1`);
  return {
    mac:
      mac === undefined
        ? null
        : (parseMac(mac) ?? fail(`mac is '${mac}'; it must be the address of one station, such as 00:16:3e:01:02:03`)),
    bridge: name("bridge") ?? DEFAULT_BRIDGE,
    vifname: name("vifname"),
    ip:
      ip === undefined ? null : (parseIpv4(ip) ?? fail(`ip is '${ip}'; it must be an IPv4 address, such as 10.0.0.5`)),
    mtu: number("mtu", LEAST_MTU, MOST_MTU) ?? 1500,
    devid: number("devid", 0, 65_535),
    trusted: trusted !== "0",
    ignored: [...values.keys()].filter((key) => IGNORED.includes(key) || (key === "type" && type === "ioemu")),
  };
}
