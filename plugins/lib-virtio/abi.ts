/** Numbers of virtio (OASIS Virtual I/O Device 1.2; linux/virtio_mmio.h, virtio_ring.h, virtio_config.h, virtio_ids.h). */

/** Device types. */
export const VIRTIO_ID = Object.freeze({ net: 1, block: 2 });

/** Feature bits that belong to no device type. */
export const VIRTIO_F = Object.freeze({ indirect: 28, eventIndex: 29, version1: 32 });

/** Bits of the status register. */
export const STATUS = Object.freeze({
  acknowledge: 1,
  driver: 2,
  driverOk: 4,
  featuresOk: 8,
  needsReset: 0x40,
  failed: 0x80,
});

/** Bits of the interrupt status register. */
export const INTERRUPT = Object.freeze({ used: 1, config: 2 });

/** Registers of the MMIO transport, version 2. */
export const MMIO = Object.freeze({
  magic: 0x000,
  version: 0x004,
  deviceId: 0x008,
  vendorId: 0x00c,
  deviceFeatures: 0x010,
  deviceFeaturesSelect: 0x014,
  driverFeatures: 0x020,
  driverFeaturesSelect: 0x024,
  queueSelect: 0x030,
  queueSizeMost: 0x034,
  queueSize: 0x038,
  queueReady: 0x044,
  queueNotify: 0x050,
  interruptStatus: 0x060,
  interruptAcknowledge: 0x064,
  status: 0x070,
  queueDescriptorsLow: 0x080,
  queueDescriptorsHigh: 0x084,
  queueDriverLow: 0x090,
  queueDriverHigh: 0x094,
  queueDeviceLow: 0x0a0,
  queueDeviceHigh: 0x0a4,
  sharedMemorySelect: 0x0ac,
  sharedMemoryLengthLow: 0x0b0,
  sharedMemoryLengthHigh: 0x0b4,
  sharedMemoryBaseLow: 0x0b8,
  sharedMemoryBaseHigh: 0x0bc,
  configGeneration: 0x0fc,
  config: 0x100,
});

/** "virt". */
export const MMIO_MAGIC = 0x7472_6976;
export const MMIO_VERSION = 2;

/** Flags of a descriptor. */
export const DESCRIPTOR = Object.freeze({ next: 1, write: 2, indirect: 4 });
/** Bytes of a descriptor. */
export const DESCRIPTOR_BYTES = 16;
/** In the flags of the available ring: no interrupts; in those of the used ring: no notifications. */
export const NO_INTERRUPT = 1;
export const NO_NOTIFY = 1;
