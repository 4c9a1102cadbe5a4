SELECT
    airline,
    count(*) AS flights,
    round(100.0 * avg((arr_delay_min > {{late_after_min}})::INT), 1) AS late_percent,
    round(median(arr_delay_min), 1) AS median_delay_min,
    sum(is_cancelled::INT) AS cancelled
FROM flights
GROUP BY airline
ORDER BY flights DESC
