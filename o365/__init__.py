"""The services over HTTP: identity, activity feed, throttle, errors. Knows msal and requests; never Beam."""
