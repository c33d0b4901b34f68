/** Status has a shape and a word; the colour only repeats them. */

export type Tone = 'critical' | 'warning' | 'ok' | 'calm';

/** The tone of a word for severity, whatever the rule's author calls it. */
export function severityTone(severity: string | null | undefined): Tone {
  switch ((severity ?? '').toLowerCase()) {
    case 'critical':
    case 'page':
    case 'error':
    case 'fatal':
    case 'high':
    case 'sev1':
    case 'p1':
      return 'critical';
    case 'warning':
    case 'warn':
    case 'ticket':
    case 'medium':
    case 'sev2':
    case 'p2':
      return 'warning';
    default:
      return 'calm';
  }
}

export function alertTone(state: string, severity: string | null | undefined): Tone {
  if (state === 'resolved') return 'ok';
  if (state === 'pending') return 'calm';
  const tone = severityTone(severity);
  // What fires without a severity is at least worth a look.
  return tone === 'calm' ? 'warning' : tone;
}

export function incidentTone(state: string): Tone {
  return state === 'resolved' ? 'ok' : state === 'acknowledged' ? 'warning' : 'critical';
}

export function issueTone(status: string, level: string): Tone {
  if (status === 'resolved') return 'ok';
  if (status === 'ignored') return 'calm';
  return level === 'warning' || level === 'warn' ? 'warning' : level === 'info' || level === 'debug' ? 'calm' : 'critical';
}

/** A share of failed requests: over 5 % is critical, over 1 % a warning. */
export function errorTone(ratio: number): Tone {
  return ratio >= 0.05 ? 'critical' : ratio >= 0.01 ? 'warning' : 'calm';
}
