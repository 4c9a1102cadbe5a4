SELECT
    hour,
    origin,
    count(*) AS flights,
    round(100.0 * avg((arr_delay_min > {{late_after_min}})::INT), 1) AS late_percent
FROM flights
WHERE NOT is_cancelled
GROUP BY hour, origin
ORDER BY hour, origin
