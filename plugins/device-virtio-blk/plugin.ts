/** Provides the device type `virtio-blk`: disks of guests whose drivers know virtio. */
import { definePlugin } from "hookvisor";
import { virtioBlkType } from "./blk.ts";

export default definePlugin({
  name: "device-virtio-blk",
  api: "^1.0.0",
  description: "virtio disks from raw image files and block devices",
  apply(hypervisor) {
    hypervisor.hooks.deviceType.for("virtio-blk").tap("device-virtio-blk", () => virtioBlkType);
  },
});
