// What both Node adapters share. The protocol is described in base.py.

import { createInterface } from 'node:readline'
import { readFileSync } from 'node:fs'

export const ANSWER = { processed: true, latency: 0 }

const now = () => process.hrtime.bigint() // CLOCK_MONOTONIC, as in Python
const millis = (since) => Number(now() - since) / 1e6

// When this process's handlers ran.
export class Clock {
  count = 0
  first = 0n
  last = 0n
  delays = []

  begin () {
    if (this.first === 0n) this.first = now()
  }

  end () {
    this.count++
    this.last = now()
  }

  stamp (enqueued) {
    this.delays.push(Number(now() - BigInt(enqueued)) / 1e3)
    this.begin()
    this.end()
  }

  report () {
    return {
      count: this.count,
      first_ns: Number(this.first),
      last_ns: Number(this.last),
      delays_us: this.delays
    }
  }
}

export const clock = new Clock()

// Runs one job of any kind.
export async function handle (kind, data) {
  if (kind === 'noop') {
    clock.begin()
    clock.end()
  } else if (kind === 'sleep') {
    clock.begin()
    await new Promise(resolve => setTimeout(resolve, data.ms))
    clock.end()
  } else if (kind === 'stamp') {
    clock.stamp(data.enqueued_ns)
  }
  return ANSWER
}

export function versions (...names) {
  const found = { node: process.versions.node }
  for (const name of names) {
    const file = new URL(`../node_modules/${name}/package.json`, import.meta.url)
    found[name] = JSON.parse(readFileSync(file)).version
  }
  return found
}

async function slots (count, total, make) {
  let left = total
  const slot = async () => {
    while (left-- > 0) await make()
  }
  await Promise.all(Array.from({ length: count }, slot))
}

// An adapter has open(), enqueueOne(kind, data), enqueueBulk(kind, data[]) or none,
// callOne(data) and work(concurrency).
const commands = {
  async enqueue (adapter, message) {
    const data = { data: 'x'.repeat(message.payload_bytes) }
    if (message.handler === 'sleep') data.ms = message.ms
    if (message.mode === 'bulk' && !adapter.enqueueBulk) return { unsupported: 'no bulk call' }
    const start = now()
    if (message.mode === 'bulk') {
      await adapter.enqueueBulk(message.handler, Array(message.count).fill(data))
    } else {
      const inFlight = message.mode === 'single' ? 1 : message.concurrency
      await slots(inFlight, message.count, () => adapter.enqueueOne(message.handler, data))
    }
    return { seconds: millis(start) / 1e3, count: message.count }
  },

  async call (adapter, message) {
    const data = { data: 'x'.repeat(message.payload_bytes) }
    const took = []
    const start = now()
    await slots(message.concurrency, message.count, async () => {
      const begun = now()
      await adapter.callOne(data)
      took.push(millis(begun) * 1e3)
    })
    return { seconds: millis(start) / 1e3, took_us: took }
  },

  async pickup (adapter, message) {
    const start = now()
    const data = 'x'.repeat(message.payload_bytes)
    for (let i = 0; i < message.count; i++) {
      await new Promise(resolve => setTimeout(resolve, message.gap_ms))
      await adapter.enqueueOne('stamp', { data, enqueued_ns: Number(now()) })
    }
    return { seconds: millis(start) / 1e3 }
  },

  async work (adapter, message) {
    await adapter.work(message.concurrency)
    return { working: true }
  },

  async report () {
    return clock.report()
  }
}

export async function run (make) {
  let adapter
  const answer = (message) => process.stdout.write(JSON.stringify(message) + '\n')
  for await (const line of createInterface({ input: process.stdin })) {
    const message = JSON.parse(line)
    try {
      if (message.do === 'open') {
        adapter = make(message)
        await adapter.open()
        answer({ versions: adapter.versions() })
      } else {
        answer(await commands[message.do](adapter, message))
      }
    } catch (error) {
      console.error(error)
      answer({ error: String(error) })
    }
  }
  process.exit(0)
}
