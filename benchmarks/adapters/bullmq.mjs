// BullMQ on Node. Settings: https://docs.bullmq.io ("Queues", "Concurrency", "Going to production").
//
// `concurrency` for handlers that wait, `addBulk` for many; a QueueEvents and `waitUntilFinished` for
// calls, as documented in "Returning job data". Finished jobs are kept, as by default.
// `maxRetriesPerRequest: null` is what workers must have. ioredis's `enableAutoPipelining` made no
// difference that could be measured.

import { Queue, QueueEvents, Worker } from 'bullmq'
import { handle, run, versions } from './base.mjs'

class BullMQ {
  constructor ({ url, queue, role, results }) {
    const { hostname, port } = new URL(url)
    this.connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null }
    this.name = queue
    this.produces = role !== 'worker'
    this.results = results
  }

  versions () {
    return versions('bullmq', 'ioredis')
  }

  async open () {
    if (!this.produces) return
    this.queue = new Queue(this.name, { connection: this.connection })
    await this.queue.waitUntilReady()
    if (this.results) {
      this.events = new QueueEvents(this.name, { connection: this.connection })
      this.events.setMaxListeners(0)
      await this.events.waitUntilReady()
    }
  }

  async enqueueOne (kind, data) {
    await this.queue.add(kind, data)
  }

  async enqueueBulk (kind, all) {
    await this.queue.addBulk(all.map(data => ({ name: kind, data })))
  }

  async callOne (data) {
    const job = await this.queue.add('echo', data)
    await job.waitUntilFinished(this.events)
  }

  async work (concurrency) {
    this.worker = new Worker(this.name, job => handle(job.name, job.data), {
      connection: this.connection,
      concurrency
    })
    this.worker.on('error', console.error)
    await this.worker.waitUntilReady()
  }
}

run(message => new BullMQ(message))
