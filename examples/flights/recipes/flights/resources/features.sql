SELECT
    month, hour, carrier, origin, distance_miles, seats, temp_f, wind_mph, rain_in,
    visibility_miles, (arr_delay_min > {{late_after_min}})::INT AS is_late
FROM flights
WHERE arr_delay_min IS NOT NULL
USING SAMPLE reservoir({{training_rows}} ROWS) REPEATABLE (13)
