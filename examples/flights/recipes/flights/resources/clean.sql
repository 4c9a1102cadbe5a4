CREATE OR REPLACE TABLE flights AS
SELECT
    make_date(f.year, f.month, f.day) AS day,
    f.month, f.hour,
    f.carrier, coalesce(a.name, f.carrier) AS airline,
    f.origin, f.dest, coalesce(d.name, f.dest) AS destination,
    f.tailnum, TRY_CAST(p.seats AS INTEGER) AS seats,
    TRY_CAST(f.dep_delay AS INTEGER) AS dep_delay_min,
    TRY_CAST(f.arr_delay AS INTEGER) AS arr_delay_min,
    TRY_CAST(f.air_time AS INTEGER) AS air_time_min,
    f.distance AS distance_miles,
    TRY_CAST(w.temp AS DOUBLE) AS temp_f,
    TRY_CAST(w.wind_speed AS DOUBLE) AS wind_mph,
    TRY_CAST(w.precip AS DOUBLE) AS rain_in,
    TRY_CAST(w.visib AS DOUBLE) AS visibility_miles,
    TRY_CAST(f.dep_time AS INTEGER) IS NULL AS is_cancelled
FROM raw_flights f
LEFT JOIN raw_airlines a USING (carrier)
LEFT JOIN raw_airports d ON d.faa = f.dest
LEFT JOIN raw_planes p USING (tailnum)
LEFT JOIN raw_weather w
    ON w.origin = f.origin AND w.month = f.month AND w.day = f.day AND w.hour = f.hour
