import type { ClientBase, Pool } from "pg";

/** The server's queue of notifications, which all databases share. Once it is full, writers that notify fail at COMMIT. */
export interface NotificationQueue {
  /** How full it is, from 0 to 1. */
  usage: number;
  /** From this usage on, embedd sends no notifications, and polls find the rows. */
  limit: number;
  /** The session with the oldest transaction, which probably holds the queue; null without the right to see it. */
  holder: { pid: number; role: string; database: string; seconds: number } | null;
}

export async function readNotificationQueue(db: Pool | ClientBase): Promise<NotificationQueue> {
  const { rows } = await db.query<NotificationQueue>(`
select q.usage,
  embedd.notify_limit() as "limit",
  case when q.pid is not null then jsonb_build_object(
    'pid', q.pid,
    'role', q.role,
    'database', q.database,
    'seconds', round(extract(epoch from clock_timestamp() - q.since))) end as holder
from embedd.notification_queue() as q`);
  return rows[0] ?? { usage: 0, limit: 1, holder: null };
}

/** Whether the queue is so full that somebody should look: a fifth of what stops embedd's notifications. */
export const isFilling = ({ usage, limit }: NotificationQueue): boolean => usage >= limit / 5;
