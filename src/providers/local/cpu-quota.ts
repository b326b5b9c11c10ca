import { dirname, join } from "node:path";

/** The text of a file, or null if it cannot be read. */
export type ReadText = (path: string) => string | null;

/** A mounted cgroup hierarchy that can limit CPU time. */
interface Hierarchy {
  version: 1 | 2;
  mountPoint: string;
  /** The process's cgroup, from the mount point; "" is the mount point itself. */
  path: string;
}

/**
 * The CPU time that Linux grants to this process, in processors: the smallest quota of its cgroup and the cgroups
 * above it, as far as they are visible. null: no quota.
 *
 * Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html (`cpu.max`) and
 * https://docs.kernel.org/scheduler/sched-bwc.html (`cpu.cfs_quota_us`)
 */
export function cpuQuota(read: ReadText): number | null {
  const quotas = hierarchies(read).flatMap(({ version, mountPoint, path }) =>
    foldersUpwards(mountPoint, path).flatMap((folder) => {
      const quota = version === 2 ? quotaOfVersion2(folder, read) : quotaOfVersion1(folder, read);
      return quota === null ? [] : [quota];
    }),
  );
  return quotas.length === 0 ? null : Math.min(...quotas);
}

function hierarchies(read: ReadText): Hierarchy[] {
  const memberships = parseMemberships(read("/proc/self/cgroup") ?? "");
  return lines(read("/proc/self/mountinfo") ?? "").flatMap((line) => {
    // 30 23 0:26 /root /mount/point rw,… shared:9 - cgroup2 cgroup2 rw,…
    const [mount = "", details = ""] = line.split(" - ");
    const [, , , root = "", mountPoint = ""] = mount.split(" ").map(unescapeOctal);
    const [type = "", , options = ""] = details.split(" ");
    const version =
      type === "cgroup2" ? 2 : type === "cgroup" && options.split(",").includes("cpu") ? 1 : null;
    const path = version === null ? undefined : memberships.get(version);
    return version === null || path === undefined
      ? []
      : [{ version, mountPoint, path: pathInMount(path, root) }];
  });
}

/** The process's path in the unified hierarchy and in version 1's hierarchy of the controller `cpu`. */
function parseMemberships(text: string): Map<1 | 2, string> {
  const found = new Map<1 | 2, string>();
  for (const line of lines(text)) {
    const [id, controllers = "", ...path] = line.split(":");
    if (id === "0" && controllers === "") found.set(2, path.join(":"));
    else if (controllers.split(",").includes("cpu")) found.set(1, path.join(":"));
  }
  return found;
}

/** In a container, `root` is the container's own cgroup, and `path` can be the host's name for it. */
function pathInMount(path: string, root: string): string {
  if (path.split("/").includes("..")) return "";
  if (root === "/" || root === "") return path;
  return path.startsWith(`${root}/`) ? path.slice(root.length) : "";
}

function foldersUpwards(mountPoint: string, path: string): string[] {
  const folders = [mountPoint];
  for (let at = path; at !== "" && at !== "/" && at !== "."; at = dirname(at))
    folders.push(join(mountPoint, at));
  return folders;
}

/** `cpu.max` is "50000 100000", or "max 100000" without a quota. */
function quotaOfVersion2(folder: string, read: ReadText): number | null {
  const [quota, period] = (read(join(folder, "cpu.max")) ?? "").trim().split(/\s+/);
  return ratio(quota, period);
}

/** `cpu.cfs_quota_us` is -1 without a quota. */
function quotaOfVersion1(folder: string, read: ReadText): number | null {
  return ratio(
    read(join(folder, "cpu.cfs_quota_us"))?.trim(),
    read(join(folder, "cpu.cfs_period_us"))?.trim(),
  );
}

function ratio(quota: string | undefined, period: string | undefined): number | null {
  const value = Number(quota) / Number(period);
  return quota && period && Number.isFinite(value) && value > 0 ? value : null;
}

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");

/** mountinfo writes a space as \040. */
const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
