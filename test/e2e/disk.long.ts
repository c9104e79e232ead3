import { itWithImage } from "../tools/guest-image.ts";
import { writeAndReadBack } from "./disk.ts";

itWithImage(
  "debian",
  "64 MiB are written through Debian's blkfront, read back with the same sha256, and given up again",
  () => writeAndReadBack(64, 1_500_000),
  1_600_000,
);
