/** A virtio device for tests of the transport: what it reads of a chain it writes back in reverse, after a while and in an odd order if told so. */
import { type DeviceHost, definePlugin } from "../../../core/index.ts";
import {
  type Chain,
  choosePlace,
  splitPlace,
  type VirtioLink,
  VirtioMmio,
  type VirtioModel,
  type Virtqueue,
} from "../../../plugins/lib-virtio/index.ts";

/** What tests know of the model. */
export class Echo implements VirtioModel {
  readonly deviceId = 42;
  readonly features = [0, 5, 40];
  readonly queues = 2;
  readonly config = Uint8Array.of(1, 2, 3, 4, 5, 6);
  readonly host: DeviceHost;
  link: VirtioLink | null = null;
  /** Chains are answered when the test says so. */
  later = false;
  readonly waiting: { readonly queue: Virtqueue; readonly chain: Chain }[] = [];
  stops = 0;
  closed = 0;

  constructor(host: DeviceHost) {
    this.host = host;
  }
  start(link: VirtioLink): void {
    this.link = link;
    for (let number = 0; number < 2; number++) if (link.queue(number) !== null) this.notified(number);
  }
  notified(number: number): void {
    const queue = this.link!.queue(number)!;
    for (let chain = queue.take(); chain !== null; chain = queue.take()) this.waiting.push({ queue, chain });
    queue.listen(true);
    if (!this.later) this.answer(queue, this.waiting.length);
  }
  /** Answers the `count` newest chains, the newest first. */
  answer(queue: Virtqueue, count: number): void {
    for (const { chain } of this.waiting.splice(-count).reverse()) {
      const bytes = new Uint8Array(Math.min(chain.readLength, chain.writeLength, 1 << 16));
      queue.memory.read(chain.readable, 0, bytes);
      queue.memory.write(chain.writable, 0, bytes.reverse());
      queue.put(chain, bytes.length);
    }
    this.link!.publish(queue);
  }
  stop(): void {
    this.stops++;
    this.waiting.length = 0;
  }
  close(): void {
    this.closed++;
  }
}

/** Makes the plugin; the models it has made are in `models`. */
export function echoPlugin() {
  const models: Echo[] = [];
  const plugin = definePlugin({
    name: "echo",
    api: "^1.0.0",
    apply(hypervisor) {
      hypervisor.hooks.deviceType.for("echo").tap("echo", () => ({
        type: "echo",
        kind: "emulated",
        parse: (spec) => splitPlace("Echo", spec).place,
        deviceId: (_place, taken) => taken.size,
        create(host, place) {
          const model = new Echo(host);
          models.push(model);
          return new VirtioMmio(host, choosePlace(place as ReturnType<typeof splitPlace>["place"], host), model);
        },
      }));
    },
  });
  return { plugin, models };
}
