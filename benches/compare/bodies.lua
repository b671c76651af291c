-- wrk's requests: each line of the file BODIES is the body of one POST, in order.
-- With more than one thread, thread k of n takes every n-th line from the k-th on.
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local lines, step

function init(args)
  step = tonumber(os.getenv("THREADS") or "1")
  lines = assert(io.open(os.getenv("BODIES"), "r")):lines()
  for _ = 1, number do lines() end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  local body = assert(lines(), "the bodies are used up")
  for _ = 2, step do lines() end
  return wrk.format(nil, nil, nil, body)
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    'JSON {"requests":%d,"us":%d,"p50":%d,"p90":%d,"p99":%d,"failed":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
