import { expect, it } from "vitest";
import { cpuQuota } from "#embedd/providers/local/cpu-quota.js";
import { chooseThreads } from "#embedd/providers/local/threads.js";

const V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct\n";

interface Tree {
  cgroup?: string;
  mounts?: string;
  files?: Record<string, string>;
}

it.each<[string, Tree, number | null]>([
  ["no Linux", {}, null],
  ["version 2 without a quota", { cgroup: "0::/\n", mounts: V2, files: { "": "max 100000\n" } }, null],
  [
    "version 2 at the root of a container",
    { cgroup: "0::/\n", mounts: V2, files: { "": "150000 100000" } },
    1.5,
  ],
  [
    "version 2, in the service's own cgroup",
    {
      cgroup: "0::/system.slice/embedd.service\n",
      mounts: V2,
      files: { "system.slice/embedd.service": "50000 100000\n", "system.slice": "max 100000\n" },
    },
    0.5,
  ],
  [
    "version 2, the smallest on the way up",
    { cgroup: "0::/a/b/c\n", mounts: V2, files: { "a/b/c": "400000 100000", a: "200000 100000" } },
    2,
  ],
  ["version 2, a neighbor's", { cgroup: "0::/a/b\n", mounts: V2, files: { "a/c": "50000 100000" } }, null],
  [
    "version 2, a path above the container's root",
    { cgroup: "0::/../other\n", mounts: V2, files: { "": "300000 100000" } },
    3,
  ],
  [
    "version 2, a mount point with a space",
    {
      cgroup: "0::/\n",
      mounts: V2.replace("/sys/fs/cgroup", "/my\\040cgroup"),
      files: { "/my cgroup/cpu.max": "100000 100000" },
    },
    1,
  ],
  [
    "version 2, a path with a colon",
    { cgroup: "0::/a:b\n", mounts: V2, files: { "a:b": "100000 50000" } },
    2,
  ],
  [
    "version 1 without a quota",
    {
      cgroup: "4:cpu,cpuacct:/\n",
      mounts: V1,
      files: {
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
      },
    },
    null,
  ],
  [
    "version 1, in a container that sees the host's path",
    {
      cgroup: "4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n",
      mounts: V1.replace(" / ", " /docker/abc "),
      files: {
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
      },
    },
    2.5,
  ],
  [
    "version 1 with an empty version 2",
    {
      cgroup: "4:cpu,cpuacct:/jobs/1\n0::/\n",
      mounts: V1 + V2,
      files: {
        "/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us": "100000\n",
        "/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us": "100000\n",
      },
    },
    1,
  ],
  ["garbage", { cgroup: "x\n::\n", mounts: "1 2\nx - cgroup2\n", files: { "": "NaN NaN" } }, null],
  ["a quota that is no number", { cgroup: "0::/\n", mounts: V2, files: { "": "1e999 0" } }, null],
])("the CPU quota of %s", (_, { cgroup, mounts, files = {} }, expected) => {
  const paths = new Map(
    Object.entries(files).map(([path, text]) => [
      path.startsWith("/") ? path : `/sys/fs/cgroup/${path === "" ? "" : `${path}/`}cpu.max`,
      text,
    ]),
  );
  if (cgroup !== undefined) paths.set("/proc/self/cgroup", cgroup);
  if (mounts !== undefined) paths.set("/proc/self/mountinfo", mounts);
  expect(cpuQuota((path) => paths.get(path) ?? null)).toBe(expected);
});

it.each([
  [16, null, 16],
  [16, 1, 1],
  [16, 1.5, 1],
  [16, 0.25, 1],
  [16, 3.99, 3],
  [2, 8, 2],
])("%i processors with a quota of %s are %i threads", (processors, quota, threads) => {
  expect(chooseThreads(processors, quota).threads).toBe(threads);
});

it("the reason names the quota", () => {
  expect(chooseThreads(16, 1.333).reason).toBe("a CPU quota of 1.33, with 16 processors");
});
