"""``doctor``: what keeps the system from its work, or soon will, each with its remedy.

1. :mod:`.probes` asks the environment, Redis and the router; :mod:`.web` all else that answers over
   HTTP. They change nothing, and show no key.
2. What an answer means is said by :mod:`.setup` (settings, files and ways), :mod:`.server` (a
   Redis), :mod:`.secrecy` (rights, encryption, signatures), :mod:`.fleet` (workers and tasks),
   :mod:`.upstream` (the router and its keys) and :mod:`.watching` (metrics, alerts, traces). All of
   these are pure, and make findings (:mod:`.finding`).
3. :mod:`.command` asks, and writes the findings.
"""
