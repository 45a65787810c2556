// @platformatic/job-queue on Redis. Settings: its README ("Queue", "Producer/Consumer Separation") and
// its own benchmark/request-response.ts, whose consumer has concurrency 100.
//
// Every job needs an id of the caller's. There is no bulk call. `enqueueAndWait` is the documented call.
// Results are kept for an hour, as by default.

import { Queue, RedisStorage } from '@platformatic/job-queue'
import { handle, run, versions } from './base.mjs'

class Platformatic {
  constructor ({ url, queue }) {
    this.url = url
    this.keyPrefix = `${queue}:`
    this.next = 0
  }

  versions () {
    return versions('@platformatic/job-queue', 'iovalkey')
  }

  async open () {
    const storage = new RedisStorage({ url: this.url, keyPrefix: this.keyPrefix })
    this.queue = new Queue({ storage })
    await this.queue.start()
  }

  async enqueueOne (kind, data) {
    await this.queue.enqueue(`${process.pid}-${this.next++}`, { kind, ...data })
  }

  async callOne (data) {
    const id = `${process.pid}-${this.next++}`
    await this.queue.enqueueAndWait(id, { kind: 'echo', ...data }, { timeout: 30000 })
  }

  async work (concurrency) {
    await this.queue.stop()
    const storage = new RedisStorage({ url: this.url, keyPrefix: this.keyPrefix })
    this.queue = new Queue({ storage, concurrency, workerId: `worker-${process.pid}` })
    this.queue.execute(job => handle(job.payload.kind, job.payload))
    this.queue.on('error', console.error)
    await this.queue.start()
  }
}

run(message => new Platformatic(message))
