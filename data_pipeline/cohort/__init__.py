"""Who is at risk and when: bitemporal events, hospital stays, prediction times, labels."""
