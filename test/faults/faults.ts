import type { Fault, FaultContext } from "./fault.js";
import { NETWORK_FAULTS } from "./network-faults.js";
import { PROCESS_FAULTS } from "./process-faults.js";
import { pick } from "./random.js";
import type { Random } from "./random.js";
import { SERVER_FAULTS } from "./server-faults.js";

const FAULTS: readonly Fault[] = [...PROCESS_FAULTS, ...SERVER_FAULTS, ...NETWORK_FAULTS];

export function pickFault(random: Random): Fault {
  let left = random() * FAULTS.reduce((sum, { weight }) => sum + weight, 0);
  return FAULTS.find(({ weight }) => (left -= weight) < 0) ?? pick(random, FAULTS);
}

/** Undoes everything that faults can leave behind. */
export async function undoFaults(
  { pool, slots }: FaultContext,
  { tellWorkers }: { tellWorkers: boolean },
): Promise<void> {
  for (const slot of slots) {
    slot.signal("SIGCONT");
    if (slot.ready) slot.release();
    slot.proxy.resume();
    slot.proxy.accept();
    slot.proxy.closeSilent(tellWorkers ? "both" : "server");
  }
  await pool.query("truncate injected");
}
