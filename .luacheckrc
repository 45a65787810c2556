std = "lua51"
max_line_length = 100
read_globals = {
  "redis", "cmsgpack", "KEYS", "ARGV",
  -- from lua/include, put into a script by the loader
  "now_ms", "text", "count", "fences_draw", "attempt_of", "events_begin", "events_add",
  "events_publish", "replies_add", "replies_publish", "replies_remember", "finished_index", "expiry",
  "delay", "promote", "next_due", "pieces", "pieces_join", "pieces_value", "flow_of", "intake_refusal", "flow_on",
  "flow_off", "flow_stored", "flow_ended", "flow_kept", "flow_forgotten", "lines_open", "lanes_open", "ending_open",
  "storing_open", "storing_answer", "storing_flush",
  "storing_known", "newjob_fields", "handing_over", "offer_made", "offer_read", "offer_end", "fence_after", "intake_add", "intake_save", "admitted", "with_flow", "rate_room", "rate_charge", "choose", "next_step", "PLAIN", "UNREADABLE", "LOW", "LEVELS", "lane_scope", "lane_of_key", "waiting",
}
-- An include defines functions for others; `finish` and `count` name what they do.
files["lua/include"] = { ignore = { "211", "431" } }
